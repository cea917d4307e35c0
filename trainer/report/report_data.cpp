#include "trainer/report/report_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/core/error.h"
#include "trainer/cost/account.h"
#include "trainer/cost/cost_report.h"
#include "trainer/io/format.h"
#include "trainer/io/json.h"
#include "trainer/report/run_metrics.h"

namespace jevons {
namespace {

using nlohmann::ordered_json;

constexpr double kSecondsPerHour = 3600;
constexpr std::size_t kMostStretches = 240;  // of the phases over time

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

// "120 of 2000", by the newest launch that came to its steps: it knew what was trained so far.
std::string describe_steps(const RunAccount& run) {
  std::int64_t done = 0, all = run.launches.back().launch.info.total_steps;
  for (const LaunchAccount& account : run.launches) {
    if (account.launch.start) done = account.last_step, all = account.launch.info.total_steps;
  }
  return fmt::format("{} of {}", format_integer(done), all > 0 ? format_integer(all) : "unknown");
}

// Empty without one.
std::string last_loss(const std::vector<Point>& points) {
  if (points.empty()) return "";
  const std::optional<double> loss = known(points.back(), kLoss);
  return loss ? fmt::format("{:.4f}", *loss) : "unknown";
}

// Of a validation with multi-token prediction.
std::string last_acceptance(const std::vector<Point>& points) {
  if (points.empty() || points.back().mtp_losses.empty()) return "";
  const double share = points.back().mtp_acceptance;
  return std::isnan(share) ? "unknown" : fmt::format("{:.1f} %", 100 * share);
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

ordered_json facts_of(const RunAccount& run, const RunMetrics& metrics) {
  const LaunchAccount &first = run.launches.front(), &last = run.launches.back();
  const LaunchInfo& info = last.launch.info;
  Facts facts;
  facts.add("State", state_of(last));
  facts.add("Steps", describe_steps(run));
  facts.add("Tokens trained", format_count(static_cast<double>(run.total.tokens)));
  facts.add("Last loss", last_loss(metrics.steps));
  facts.add("Last validation loss", last_loss(metrics.validations));
  facts.add("Second tokens accepted", last_acceptance(metrics.validations));
  for (const ordered_json& source : metrics.sources) {
    if (metrics.sources.size() == 1) break;  // it is that loss
    const ordered_json& loss = source["loss"].back();
    facts.add("Last validation loss of " + source["name"].get<std::string>(),
              loss.is_number() ? fmt::format("{:.4f}", loss.get<double>()) : "unknown");
  }
  add_cost(facts, run.total);
  facts.add("Devices", info.devices > 0 ? fmt::format("{} {}", info.devices, info.device_type) : "unknown");
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
  const RunMetrics metrics = read_metrics(run_dir + "/metrics.jsonl");
  ordered_json notes = run.problems;
  if (metrics.unreadable > 0)
    notes.push_back(fmt::format("metrics.jsonl: {} unreadable lines", metrics.unreadable));
  std::vector<std::int64_t> restarts;
  for (std::size_t i = 1; i < run.launches.size(); ++i) {
    const auto& start = run.launches[i].launch.start;
    if (start) restarts.push_back(start->step);
  }
  std::vector<const Point*> validations;
  for (const Point& point : metrics.validations) validations.push_back(&point);
  const TimeLine line = time_line(run);
  return {{"name", run.run.empty() ? run_dir : run.run},
          {"facts", facts_of(run, metrics)},
          {"steps", curves(thinned(metrics.steps))},
          {"validation", curves(validations)},
          {"validation_sources", metrics.sources},
          {"restarts", restarts},
          {"time", time_json(thinned(line))},
          {"forecast", forecast(run, line)},
          {"currency", run.launches.back().launch.info.currency},
          {"load", load_over_steps(metrics)},
          {"experts", metrics.experts},
          {"notes", notes}};
}

}  // namespace jevons
