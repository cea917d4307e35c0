#include "trainer/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/core/error.h"
#include "trainer/cost/account.h"
#include "trainer/cost/cost_report.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

constexpr double kSecondsPerHour = 3600;
constexpr std::size_t kMostPoints = 1500;    // of a curve
constexpr std::size_t kMostStretches = 240;  // of the phases over time
constexpr std::size_t kMostColumns = 300;    // of the load over steps

template <class T>
ordered_json or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

// The lines of metrics.jsonl, by kind.
struct MetricLines {
  std::vector<ordered_json> steps, validations;
  std::int64_t unreadable = 0;
};

MetricLines read_metrics(const std::string& path) {
  MetricLines lines;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    ordered_json line = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("kind") || !line.contains("step")) {
      ++lines.unreadable;
    } else {
      (line["kind"] == "step" ? lines.steps : lines.validations).push_back(std::move(line));
    }
  }
  return lines;
}

double loss_of(const ordered_json& line) {
  const auto loss = line.find("loss");
  return loss != line.end() && loss->is_number() ? loss->get<double>() : 0;
}

// Of every stretch of neighbours the line with the lowest and the one with the highest loss, in order, and
// the first and the last of all.
std::vector<const ordered_json*> thinned(const std::vector<ordered_json>& lines) {
  std::vector<const ordered_json*> kept;
  const std::size_t stretch = lines.size() <= kMostPoints ? 1 : 2 * lines.size() / kMostPoints + 1;
  for (std::size_t begin = 0; begin < lines.size(); begin += stretch) {
    const auto first = lines.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = lines.begin() + static_cast<std::ptrdiff_t>(std::min(lines.size(), begin + stretch));
    const auto [low, high] = std::minmax_element(
        first, last, [](const ordered_json& a, const ordered_json& b) { return loss_of(a) < loss_of(b); });
    kept.push_back(&*std::min(low, high));
    if (low != high) kept.push_back(&*std::max(low, high));
  }
  if (!lines.empty() && kept.back() != &lines.back()) kept.push_back(&lines.back());
  return kept;
}

// {"step": [...], "loss": [...]}: one list per key; what a line lacks is null.
ordered_json columns(const std::vector<const ordered_json*>& lines, const std::vector<const char*>& keys) {
  ordered_json table;
  for (const char* key : keys) {
    ordered_json column = ordered_json::array();
    for (const ordered_json* line : lines) column.push_back(line->value(key, ordered_json()));
    table[key] = std::move(column);
  }
  return table;
}

// Tokens of the busiest expert over the mean, for every MoE layer over the steps; null in a dense model.
ordered_json load_over_steps(const std::vector<ordered_json>& steps) {
  ordered_json load = {{"layers", ordered_json::array()},
                       {"steps", ordered_json::array()},
                       {"max_over_mean", ordered_json::array()}};
  const std::size_t stride = steps.size() / kMostColumns + 1;
  for (std::size_t i = 0; i < steps.size(); i += stride) {
    if (!steps[i].contains("moe")) return nullptr;
    ordered_json column = ordered_json::array();
    for (const ordered_json& layer : steps[i]["moe"]) {
      if (i == 0) load["layers"].push_back(layer.value("layer", ordered_json()));
      column.push_back(layer.value("max_over_mean", ordered_json()));
    }
    load["steps"].push_back(steps[i]["step"]);
    load["max_over_mean"].push_back(std::move(column));
  }
  return steps.empty() ? ordered_json(nullptr) : load;
}

// The load of every expert in per cent of the mean, for the steps that have it.
ordered_json load_of_experts(const std::vector<ordered_json>& steps) {
  ordered_json list = ordered_json::array();
  for (const ordered_json& line : steps) {
    if (!line.contains("moe") || line["moe"].empty() || !line["moe"][0].contains("load_percent")) continue;
    ordered_json layers = ordered_json::array();
    for (const ordered_json& layer : line["moe"])
      layers.push_back(layer.value("load_percent", ordered_json()));
    list.push_back({{"step", line["step"]}, {"layers", std::move(layers)}});
  }
  return list;
}

// The account over the hours that the run was running: launches one after another, gaps left out.
struct TimeLine {
  std::vector<double> hours, device_hours;
  std::vector<std::optional<double>> money;
  std::vector<std::array<double, kNumPhases>> phases;  // device-seconds since the point before
  std::vector<double> restarts;                        // hours at which launches after the first began
};

TimeLine time_line(const RunAccount& run) {
  TimeLine line;
  double hours = 0, device_hours = 0;
  std::optional<double> money = 0;
  for (const LaunchAccount& account : run.launches) {
    const Launch& launch = account.launch;
    if (&account != &run.launches.front()) line.restarts.push_back(hours);
    std::array<double, kNumPhases> before{};
    const auto devices = static_cast<double>(launch.info.devices);
    const auto cost_of = [&](double h) -> std::optional<double> {
      if (!money || !launch.info.price_per_device_hour) return std::nullopt;
      return *money + h * devices * *launch.info.price_per_device_hour;
    };
    for (const Heartbeat& beat : launch.beats) {
      const double h = beat.elapsed / kSecondsPerHour;
      line.hours.push_back(hours + h);
      line.device_hours.push_back(device_hours + h * devices);
      line.money.push_back(cost_of(h));
      std::array<double, kNumPhases> spent = beat.totals.device_seconds;
      for (std::size_t p = 0; p < kNumPhases; ++p) spent[p] = std::max(0.0, spent[p] - before[p]);
      before = beat.totals.device_seconds;
      line.phases.push_back(spent);
    }
    const double all = launch.beats.back().elapsed / kSecondsPerHour;
    money = cost_of(all), hours += all, device_hours += all * devices;
  }
  return line;
}

// Neighbouring points become one until few enough are left.
TimeLine thinned(const TimeLine& all) {
  const std::size_t stretch = all.hours.size() / kMostStretches + 1;
  TimeLine line;
  line.restarts = all.restarts;
  for (std::size_t begin = 0; begin < all.hours.size(); begin += stretch) {
    const std::size_t end = std::min(all.hours.size(), begin + stretch);
    line.hours.push_back(all.hours[end - 1]);
    line.device_hours.push_back(all.device_hours[end - 1]);
    line.money.push_back(all.money[end - 1]);
    std::array<double, kNumPhases> sum{};
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t p = 0; p < kNumPhases; ++p) sum[p] += all.phases[i][p];
    }
    line.phases.push_back(sum);
  }
  return line;
}

ordered_json time_json(const TimeLine& line) {
  ordered_json money = ordered_json::array(), phases;
  for (const auto& amount : line.money) money.push_back(or_null(amount));
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    ordered_json seconds = ordered_json::array();
    for (const auto& point : line.phases) seconds.push_back(point[p]);
    phases[name_of(static_cast<Phase>(p))] = std::move(seconds);
  }
  return {{"hours", line.hours},
          {"device_hours", line.device_hours},
          {"money", money},
          {"phases", phases},
          {"restarts", line.restarts}};
}

// Where the curve of cost will end if the rest of the steps go like the newer half of the last launch; null
// for a run that has ended, or of which too little is known.
ordered_json forecast(const RunAccount& run, const TimeLine& line) {
  const LaunchAccount& last = run.launches.back();
  const std::vector<Heartbeat>& beats = last.launch.beats;
  const Heartbeat& from = beats[beats.size() / 2];
  const Heartbeat& to = beats.back();
  const std::int64_t steps = to.totals.step - from.totals.step;
  const std::int64_t left = last.launch.info.total_steps - to.totals.step;
  if (steps <= 0 || left <= 0) return nullptr;
  const double hours =
      (to.elapsed - from.elapsed) / static_cast<double>(steps) * static_cast<double>(left) / kSecondsPerHour;
  const double device_hours = hours * static_cast<double>(last.launch.info.devices);
  std::optional<double> money = line.money.back();
  const auto price = last.launch.info.price_per_device_hour;
  money = money && price ? std::optional(*money + device_hours * *price) : std::nullopt;
  return {{"hours", line.hours.back() + hours},
          {"device_hours", line.device_hours.back() + device_hours},
          {"money", or_null(money)}};
}

class Facts {
 public:
  void add(const std::string& name, const std::string& value) {
    if (!value.empty()) list_.push_back({name, value});
  }
  ordered_json take() { return std::move(list_); }

 private:
  ordered_json list_ = ordered_json::array();
};

std::string state_of(const LaunchAccount& last) {
  if (!last.launch.exit) return "no exit record: killed, or still running";
  return fmt::format("{} (exit code {})", last.launch.exit->reason, last.launch.exit->code);
}

void add_cost(Facts& facts, const CostSum& sum) {
  facts.add("Device-hours", format_device_hours(sum.device_seconds));
  facts.add("Cost", describe_money(sum));
  if (const auto amount = sum.money_per_mtoken()) {
    facts.add("Cost per million tokens", format_money(*amount, sum.money.begin()->first));
  }
  facts.add("Energy", sum.energy() ? format_energy(*sum.energy()) : "not measured");
  facts.add("MFU of everything allocated", sum.mfu() ? fmt::format("{:.1f} %", 100 * *sum.mfu()) : "unknown");
  facts.add("Rework", fmt::format("{:.1f} % of the device-hours",
                                  100 * sum.rework / std::max(sum.device_seconds, 1e-9)));
}

ordered_json facts_of(const RunAccount& run, const MetricLines& metrics) {
  const LaunchAccount &first = run.launches.front(), &last = run.launches.back();
  const LaunchInfo& info = last.launch.info;
  Facts facts;
  facts.add("State", state_of(last));
  facts.add("Steps",
            fmt::format("{} of {}", format_integer(last.last_step), format_integer(info.total_steps)));
  facts.add("Tokens trained", format_count(static_cast<double>(run.total.tokens)));
  if (!metrics.steps.empty()) facts.add("Last loss", fmt::format("{:.4f}", loss_of(metrics.steps.back())));
  if (!metrics.validations.empty()) {
    facts.add("Last validation loss", fmt::format("{:.4f}", loss_of(metrics.validations.back())));
  }
  add_cost(facts, run.total);
  facts.add("Devices", fmt::format("{} {}", info.devices, info.device_type));
  facts.add("Layout", info.layout);
  facts.add("Launches", fmt::format("{}", run.launches.size()));
  facts.add("First start", format_utc(first.launch.start_time));
  facts.add("Last record", format_utc(last.launch.start_time + last.launch.beats.back().elapsed));
  facts.add("Project, purpose", fmt::format("{}, {}", info.project, info.purpose));
  facts.add("Program", info.git_id);
  return facts.take();
}

}  // namespace

ordered_json report_data(const std::string& run_dir) {
  const std::string ledger = run_dir + "/ledger.jsonl";
  if (!std::filesystem::exists(ledger)) fail(ExitCode::kUsage, "{}: no ledger.jsonl here", run_dir);
  const RunAccount run = account_of(read_ledger(ledger));
  if (run.launches.empty()) fail(ExitCode::kUsage, "{}: no launch in this ledger", ledger);
  const MetricLines metrics = read_metrics(run_dir + "/metrics.jsonl");
  ordered_json notes = run.problems;
  if (metrics.unreadable > 0)
    notes.push_back(fmt::format("metrics.jsonl: {} unreadable lines", metrics.unreadable));
  std::vector<std::int64_t> restarts;
  for (std::size_t i = 1; i < run.launches.size(); ++i) {
    restarts.push_back(run.launches[i].launch.beats.front().totals.step);
  }
  std::vector<const ordered_json*> validations;
  for (const ordered_json& line : metrics.validations) validations.push_back(&line);
  const TimeLine line = time_line(run);
  return {{"name", run.run.empty() ? run_dir : run.run},
          {"facts", facts_of(run, metrics)},
          {"steps", columns(thinned(metrics.steps), {"step", "loss", "lr", "tokens_per_second", "mfu"})},
          {"validation", columns(validations, {"step", "loss"})},
          {"restarts", restarts},
          {"time", time_json(thinned(line))},
          {"forecast", forecast(run, line)},
          {"currency", run.launches.back().launch.info.currency},
          {"load", load_over_steps(metrics.steps)},
          {"experts", load_of_experts(metrics.steps)},
          {"notes", notes}};
}

}  // namespace jevons
