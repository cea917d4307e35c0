#include "trainer/cost/cost_report.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "trainer/io/format.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

// The account is complete when less than this share of the allocation is in no phase.
constexpr double kUnaccountedLimit = 0.001;

// More runs than this have no columns of their own.
constexpr std::size_t kMostColumns = 6;

using Rows = std::vector<std::vector<std::string>>;

// The run's directory, as it was found.
std::string name_of(const RunAccount& run) {
  return std::filesystem::path(run.path).parent_path().string();
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : "-";
}

std::string per_mtoken(const CostSum& sum) {
  const std::optional<double> amount = sum.money_per_mtoken();
  return amount ? format_money(*amount, sum.money.begin()->first) : "unknown";
}

std::string describe_energy(const CostSum& sum) {
  if (sum.unmetered_device_seconds >= sum.device_seconds) return "unknown";
  const std::string text = format_energy(sum.energy_joules);
  if (sum.unmetered_device_seconds == 0) return text;
  return fmt::format("{} + {} device-h not measured", text,
                     format_device_hours(sum.unmetered_device_seconds));
}

std::vector<std::string> sum_row(const std::string& name, const CostSum& sum) {
  const std::optional<double> rate = sum.tokens_per_device_hour(), mfu = sum.mfu();
  return {name,
          fmt::format("{}", sum.launches),
          format_device_hours(sum.device_seconds),
          describe_money(sum),
          describe_energy(sum),
          format_count(static_cast<double>(sum.tokens)),
          rate ? format_count(*rate) : "-",
          per_mtoken(sum),
          mfu ? percent(*mfu, 1) : "unknown"};
}

// The columns of sum_row.
std::vector<std::string> header(const std::string& first) {
  return {first, "launches", "device-h", "cost", "energy", "tokens", "tok/device-h", "per Mtok", "MFU"};
}

std::string end_of(const LaunchAccount& account) {
  const auto& exit = account.launch.exit;
  return exit ? fmt::format("{} ({})", exit->reason, exit->code) : "no exit record";
}

// "10 to 25"
std::string steps_of(const LaunchAccount& account) {
  const auto& start = account.launch.start;
  return start ? fmt::format("{} to {}", start->step, account.last_step) : "none began";
}

std::string describe_launches(const Programme& programme) {
  Rows rows = {{"launch", "started", "devices", "steps", "device-h", "rework", "end"}};
  for (const RunAccount& run : programme.runs) {
    for (const LaunchAccount& account : run.launches) {
      const Launch& launch = account.launch;
      const bool known = launch.has_record;
      rows.push_back({run.run.empty() ? run.path : run.run, known ? format_utc(launch.start_time) : "unknown",
                      known ? fmt::format("{} {}", launch.info.devices, launch.info.device_type) : "unknown",
                      steps_of(account), format_device_hours(account.device_seconds),
                      format_device_hours(account.rework), end_of(account)});
    }
  }
  return format_table(rows);
}

// Where the device-seconds went: a row per phase that occurs, a column per run and one for the sum.
std::string describe_phases(const Programme& programme) {
  std::vector<std::pair<std::string, const CostSum*>> sums;
  for (const RunAccount& run : programme.runs) sums.push_back({name_of(run), &run.total});
  if (sums.size() == 1 || sums.size() > kMostColumns) sums.clear();
  sums.push_back({"total", &programme.total});
  Rows rows = {{"share of device-h"}};
  for (const auto& [name, sum] : sums) rows[0].push_back(name);
  const auto add = [&](const std::string& name, auto part_of) {
    if (part_of(programme.total) == 0) return;
    rows.push_back({name});
    for (const auto& [run, sum] : sums) rows.back().push_back(percent(part_of(*sum), sum->device_seconds));
  };
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    add(name_of(static_cast<Phase>(p)), [p](const CostSum& sum) { return sum.phases[p]; });
  }
  add("rework", [](const CostSum& sum) { return sum.rework; });
  add("unaccounted", [](const CostSum& sum) { return sum.unaccounted; });
  return format_table(rows);
}

std::string describe_devices(const CostSum& sum) {
  Rows rows = {{"device", "device-h", "share"}};
  for (const auto& [type, seconds] : sum.device_seconds_by_type) {
    rows.push_back({type, format_device_hours(seconds), percent(seconds, sum.device_seconds)});
  }
  return format_table(rows);
}

std::string describe_purposes(const Programme& programme) {
  Rows rows = {header("project, purpose")};
  for (const auto& [key, sum] : programme.by_purpose) {
    rows.push_back(sum_row(fmt::format("{}, {}", key.first, key.second), sum));
  }
  return format_table(rows);
}

// The final runs of each project beside everything that was spent on it.
std::string describe_ratios(const Programme& programme) {
  std::string text;
  for (const auto& [project, all] : programme.by_project) {
    const std::optional<double> ratio = programme.ratio_to_final(project);
    if (!ratio) {
      text += fmt::format("project {}: {} device-h, {}; no run has the purpose '{}' yet\n", project,
                          format_device_hours(all.device_seconds), describe_money(all), kFinalPurpose);
      continue;
    }
    const CostSum& kept = programme.by_purpose.at({project, kFinalPurpose});
    text += fmt::format(
        "project {}: final runs {} device-h, {}; whole programme {} device-h, {}: {:.2f} times the final "
        "runs\n",
        project, format_device_hours(kept.device_seconds), describe_money(kept),
        format_device_hours(all.device_seconds), describe_money(all), *ratio);
  }
  return text;
}

std::string describe_problems(const Programme& programme) {
  std::string text;
  for (const std::string& ledger : programme.unusable) text += "note: " + ledger + "\n";
  for (const std::string& problem : programme.problems) text += "note: " + problem + "\n";
  for (const RunAccount& run : programme.runs) {
    for (const std::string& problem : run.problems) text += fmt::format("note: {}: {}\n", run.path, problem);
    const CostSum& sum = run.total;
    if (std::abs(sum.unaccounted) > kUnaccountedLimit * sum.device_seconds) {
      text += fmt::format("note: {}: {} device-h ({}) are in no phase\n", run.path,
                          format_device_hours(sum.unaccounted), percent(sum.unaccounted, sum.device_seconds));
    }
  }
  return text.empty() ? text : "\n" + text;
}

ordered_json phases_json(const std::array<double, kNumPhases>& phases) {
  ordered_json json;
  for (std::size_t p = 0; p < kNumPhases; ++p) json[name_of(static_cast<Phase>(p))] = phases[p];
  return json;
}

ordered_json sum_json(const CostSum& sum) {
  return {{"launches", sum.launches},
          {"device_seconds", sum.device_seconds},
          {"device_seconds_by_type", sum.device_seconds_by_type},
          {"phases", phases_json(sum.phases)},
          {"rework", sum.rework},
          {"unaccounted", sum.unaccounted},
          {"money", sum.money},
          {"unpriced_device_seconds", sum.unpriced_device_seconds},
          {"energy_joules", or_null(sum.energy())},
          {"unmetered_device_seconds", sum.unmetered_device_seconds},
          {"tokens", sum.tokens},
          {"tokens_per_device_hour", or_null(sum.tokens_per_device_hour())},
          {"money_per_mtoken", or_null(sum.money_per_mtoken())},
          {"mfu", or_null(sum.mfu())}};
}

ordered_json launch_json(const LaunchAccount& account) {
  const Launch& launch = account.launch;
  ordered_json exit = nullptr;
  if (launch.exit) exit = {{"reason", launch.exit->reason}, {"code", launch.exit->code}};
  return {{"launch", launch.id},
          {"start_time", launch.has_record ? ordered_json(launch.start_time) : ordered_json(nullptr)},
          {"hosts", launch.info.hosts},
          {"device_type", launch.info.device_type},
          {"devices", launch.info.devices},
          {"price_per_device_hour", or_null(launch.info.price_per_device_hour)},
          {"currency", launch.info.currency},
          {"price_source", launch.info.price_source},
          {"project", launch.info.project},
          {"purpose", launch.info.purpose},
          {"git_id", launch.info.git_id},
          {"layout", launch.info.layout},
          {"start_step", launch.start ? ordered_json(launch.start->step) : ordered_json(nullptr)},
          {"last_step", launch.start ? ordered_json(account.last_step) : ordered_json(nullptr)},
          {"device_seconds", account.device_seconds},
          {"phases", phases_json(account.phases)},
          {"rework", account.rework},
          {"unaccounted", account.unaccounted},
          {"money", or_null(account.money)},
          {"energy_joules", or_null(account.energy_joules)},
          {"tokens", account.tokens},
          {"exit", exit}};
}

ordered_json run_json(const RunAccount& run) {
  ordered_json launches = ordered_json::array();
  for (const LaunchAccount& account : run.launches) launches.push_back(launch_json(account));
  return {{"path", run.path},
          {"run", run.run},
          {"total", sum_json(run.total)},
          {"launches", launches},
          {"problems", run.problems}};
}

}  // namespace

std::string describe_money(const CostSum& sum) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : " + ") + part; };
  for (const auto& [currency, amount] : sum.money) add(format_money(amount, currency));
  if (sum.money.empty()) return "unknown";
  if (sum.unpriced_device_seconds > 0) {
    add(fmt::format("{} device-h without a price", format_device_hours(sum.unpriced_device_seconds)));
  }
  return text;
}

std::string describe_programme(const Programme& programme) {
  Rows runs = {header("run")};
  for (const RunAccount& run : programme.runs) {
    runs.push_back(sum_row(name_of(run), run.total));
  }
  runs.push_back(sum_row("total", programme.total));
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}{}", format_table(runs), describe_launches(programme),
                     describe_devices(programme.total), describe_phases(programme),
                     describe_purposes(programme), describe_ratios(programme), describe_problems(programme));
}

std::string programme_json(const Programme& programme) {
  ordered_json runs = ordered_json::array(), purposes = ordered_json::array(),
               projects = ordered_json::array();
  for (const RunAccount& run : programme.runs) runs.push_back(run_json(run));
  for (const auto& [key, sum] : programme.by_purpose) {
    purposes.push_back({{"project", key.first}, {"purpose", key.second}, {"total", sum_json(sum)}});
  }
  for (const auto& [project, sum] : programme.by_project) {
    projects.push_back({{"project", project},
                        {"total", sum_json(sum)},
                        {"ratio_to_final", or_null(programme.ratio_to_final(project))}});
  }
  const ordered_json json = {{"total", sum_json(programme.total)},
                             {"projects", projects},
                             {"purposes", purposes},
                             {"runs", runs},
                             {"unusable", programme.unusable},
                             {"problems", programme.problems}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace jevons
