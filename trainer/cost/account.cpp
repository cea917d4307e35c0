#include "trainer/cost/account.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace jevons {
namespace {

constexpr double kSecondsPerHour = 3600;

double sum_of(const std::array<double, kNumPhases>& seconds) {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

// Totals when `step` steps were finished, linear between heartbeats.
Totals totals_at(const std::vector<Heartbeat>& beats, std::int64_t step) {
  const auto after =
      std::find_if(beats.begin(), beats.end(), [&](const Heartbeat& b) { return b.totals.step > step; });
  if (after == beats.begin()) return beats.front().totals;
  const Totals& low = std::prev(after)->totals;
  if (after == beats.end() || low.step == step) return low;
  const Totals& high = after->totals;
  const double part = static_cast<double>(step - low.step) / static_cast<double>(high.step - low.step);
  Totals totals = low;
  totals.step = step;
  totals.tokens += std::llround(part * static_cast<double>(high.tokens - low.tokens));
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    totals.device_seconds[p] += part * (high.device_seconds[p] - low.device_seconds[p]);
  }
  return totals;
}

bool is_work_of_steps(std::size_t phase) {
  return phase != static_cast<std::size_t>(Phase::kInit) &&
         phase != static_cast<std::size_t>(Phase::kShutdown);
}

double allocation(const Launch& launch, const Heartbeat& last) {
  if (launch.end) return launch.end->allocated;
  if (launch.has_record) return static_cast<double>(launch.info.devices) * last.elapsed;
  return sum_of(last.totals.device_seconds);
}

// Up to which step the launches of a run are part of what it has become. Asked from the newest on.
class KeptSteps {
 public:
  std::int64_t of(const Launch& launch) {
    constexpr auto kAll = std::numeric_limits<std::int64_t>::max();
    if (!launch.start) return kAll;
    if (!line_) line_ = launch.start->lineage;
    const std::uint64_t branch = launch.start->lineage.branch();
    const std::int64_t end = line_->end_of(branch).value_or(launch.start->step);
    std::int64_t& repeated_from = repeated_from_.try_emplace(branch, kAll).first->second;
    const std::int64_t kept = std::min(end, repeated_from);
    repeated_from = std::min(repeated_from, launch.start->step);
    return kept;
  }

 private:
  std::optional<Lineage> line_;                          // of the newest launch that made steps
  std::map<std::uint64_t, std::int64_t> repeated_from_;  // by branch: where later launches on it began
};

// `kept_step`: steps above it were repeated by a later launch, or left behind.
LaunchAccount account_of(const Launch& launch, std::int64_t kept_step) {
  LaunchAccount account;
  account.launch = launch;
  const std::vector<Heartbeat>& beats = launch.beats;
  const Heartbeat& last = beats.back();
  account.phases = last.totals.device_seconds;
  account.last_step = last.totals.step;
  account.energy_joules = last.totals.energy_joules;
  account.device_seconds = allocation(launch, last);
  account.unaccounted = account.device_seconds - sum_of(account.phases);
  if (launch.info.price_per_device_hour) {
    account.money = account.device_seconds / kSecondsPerHour * *launch.info.price_per_device_hour;
  }
  Totals kept = last.totals;
  if (kept_step < last.totals.step) kept = totals_at(beats, kept_step);
  account.tokens = kept.tokens - beats.front().totals.tokens;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    const double lost = last.totals.device_seconds[p] - kept.device_seconds[p];
    if (!is_work_of_steps(p)) continue;
    account.phases[p] -= lost;
    account.rework += lost;
  }
  return account;
}

}  // namespace

std::optional<double> LaunchAccount::model_flops() const {
  if (launch.info.model_flops_per_token <= 0) return std::nullopt;
  return launch.info.model_flops_per_token * static_cast<double>(tokens);
}

std::optional<double> LaunchAccount::peak_flops() const {
  if (launch.info.peak_tflops <= 0) return std::nullopt;
  return launch.info.peak_tflops * 1e12 * device_seconds;
}

void CostSum::add(const LaunchAccount& account) {
  ++launches;
  if (account.launch.early) ++early_launches;
  device_seconds += account.device_seconds;
  const std::string& type = account.launch.info.device_type;
  device_seconds_by_type[type.empty() ? "unknown" : type] += account.device_seconds;
  for (std::size_t p = 0; p < kNumPhases; ++p) phases[p] += account.phases[p];
  rework += account.rework;
  unaccounted += account.unaccounted;
  tokens += account.tokens;
  if (account.money) {
    money[account.launch.info.currency] += *account.money;
  } else {
    unpriced_device_seconds += account.device_seconds;
  }
  if (account.energy_joules) {
    energy_joules += *account.energy_joules;
  } else if (!account.launch.early) {
    unmetered_device_seconds += account.device_seconds;
  }
  const std::optional<double> done = account.model_flops(), possible = account.peak_flops();
  if (done && possible) {
    model_flops += *done, peak_flops += *possible;
  } else {
    unrated_device_seconds += account.device_seconds;
  }
}

std::optional<double> CostSum::single_amount() const {
  if (money.size() != 1 || unpriced_device_seconds > 0) return std::nullopt;
  return money.begin()->second;
}

std::optional<double> CostSum::money_per_mtoken() const {
  const std::optional<double> amount = single_amount();
  if (!amount || tokens <= 0) return std::nullopt;
  return *amount / (static_cast<double>(tokens) / 1e6);
}

std::optional<double> CostSum::tokens_per_device_hour() const {
  if (device_seconds <= 0) return std::nullopt;
  return static_cast<double>(tokens) / (device_seconds / kSecondsPerHour);
}

std::optional<double> CostSum::energy() const {
  const bool nothing = launches == early_launches;
  return unmetered_device_seconds > 0 || nothing ? std::nullopt : std::optional(energy_joules);
}

std::optional<double> CostSum::mfu() const {
  if (unrated_device_seconds > 0 || peak_flops <= 0) return std::nullopt;
  return model_flops / peak_flops;
}

RunAccount account_of(const LedgerContents& ledger) {
  RunAccount run;
  run.path = ledger.path;
  run.problems = ledger.problems;
  KeptSteps kept;
  for (auto launch = ledger.launches.rbegin(); launch != ledger.launches.rend(); ++launch) {
    run.launches.push_back(account_of(*launch, kept.of(*launch)));
    if (run.run.empty()) run.run = launch->info.run;
  }
  std::reverse(run.launches.begin(), run.launches.end());
  for (const LaunchAccount& account : run.launches) run.total.add(account);
  return run;
}

}  // namespace jevons
