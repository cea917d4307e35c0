#include "trainer/run/run_budget.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/cost/lives.h"
#include "trainer/cost/programme.h"
#include "trainer/io/clock.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kSecondsPerHour = 3600;

// Empty also when there is no limit to hold them against: ledgers grow long.
RunAccount earlier_launches(const RunConfig& config, const std::string& own_launch) {
  const bool needed = Budget(config.budget, config.cost.currency, 0).has_limits();
  if (!needed || !fs::exists(ledger_of(config.run_dir))) return {};
  LedgerContents ledger = read_ledger(ledger_of(config.run_dir));
  std::erase_if(ledger.launches, [&](const Launch& launch) { return launch.id == own_launch; });
  return account_of(ledger);
}

double start_of(const RunAccount& run) {
  return run.launches.empty() ? unix_time() : run.launches.front().launch.start_time;
}

// Device-seconds of a launch: for its start on one device, and for a token, since batches may change.
struct Pace {
  double init = 0, per_token = 0;
};

// Of the newest launch that made steps; all 0 if there is none.
Pace pace_of(const RunAccount& run) {
  for (auto account = run.launches.rbegin(); account != run.launches.rend(); ++account) {
    const auto& start = account->launch.start;
    const std::int64_t tokens = start ? account->launch.beats.back().totals.tokens - start->tokens : 0;
    if (tokens <= 0) continue;
    const auto of = [&](Phase phase) { return account->phases[static_cast<std::size_t>(phase)]; };
    const double work = account->device_seconds - of(Phase::kInit) - of(Phase::kShutdown);
    const auto devices = static_cast<double>(std::max<std::int64_t>(1, account->launch.info.devices));
    return {of(Phase::kInit) / devices, work / static_cast<double>(tokens)};
  }
  return {};
}

fs::path directory_above(const std::string& run_dir) {
  const fs::path run = fs::absolute(run_dir).lexically_normal();
  return (run.has_filename() ? run : run.parent_path()).parent_path();
}

}  // namespace

RunBudget::RunBudget(const RunConfig& config, std::int64_t devices, bool energy_known, std::string own_launch)
    : config_(config),
      devices_(devices),
      energy_known_(energy_known),
      own_launch_(std::move(own_launch)),
      run_(earlier_launches(config, own_launch_)),
      budget_(config.budget, config.cost.currency, start_of(run_)) {
  if (budget_.has_limits()) read_ledgers();
}

Spending RunBudget::priced(double device_seconds, std::optional<double> joules) const {
  Spending spending{.device_seconds = device_seconds,
                    .seconds = device_seconds / static_cast<double>(devices_)};
  const std::optional<double> price = known_price(config_.cost.price_per_device_hour);
  spending.money = price ? std::optional(device_seconds / kSecondsPerHour * *price) : std::nullopt;
  spending.joules = joules;
  return spending;
}

void RunBudget::read_ledgers() {
  const Clock::time_point begin = Clock::now();
  CostSum sum;
  const auto add = [&](const RunAccount& run) {
    for (const LaunchAccount& account : run.launches) {
      if (account.launch.id != own_launch_) sum.add(account);
    }
  };
  if (config_.budget.scope == BudgetScope::kRun) {
    add(run_);
  } else {
    const std::vector<std::string> ledgers = ledgers_below(directory_above(config_.run_dir));
    const Programme programme = account_programme(ledgers, config_.cost.project);
    for (const RunAccount& run : programme.runs) add(run);
    for (const std::string& ledger : programme.unusable) {
      if (warned_.insert(ledger).second) log_warning("budget: {}; it is not counted", ledger);
    }
  }
  others_ = spending_of(sum);
  read_time_ = Clock::now();
  read_cost_ = read_time_ - begin;
}

// A run that began since without price or energy counter must not lift the limit.
void RunBudget::refresh() {
  const Spending before = others_;
  read_ledgers();
  if ((!before.money || others_.money) && (!before.joules || others_.joules)) return;
  log_warning("budget: a run of project {} has no known price or energy; it is not counted",
              config_.cost.project);
  if (!others_.money) others_.money = before.money;
  if (!others_.joules) others_.joules = before.joules;
}

void RunBudget::check_start(std::int64_t steps_to_checkpoint, std::int64_t tokens_to_checkpoint) const {
  if (!budget_.has_limits()) return;
  const Spending nothing = priced(0, energy_known_ ? std::optional(0.0) : std::nullopt);
  budget_.check_measurable(others_ + nothing);
  if (const std::string passed = budget_.limit_passed(others_, nothing, unix_time()); !passed.empty()) {
    fail(ExitCode::kUsage, "{}; the run is not started", passed);
  }
  const Pace pace = pace_of(run_);
  const double ahead =
      pace.init * static_cast<double>(devices_) + pace.per_token * static_cast<double>(tokens_to_checkpoint);
  std::optional<double> joules;
  if (const auto before = run_.total.energy(); before && run_.total.device_seconds > 0) {
    joules = ahead * *before / run_.total.device_seconds;
  }
  const std::string passed = budget_.limit_passed(others_, priced(ahead, joules), unix_time());
  if (passed.empty()) return;
  fail(ExitCode::kUsage,
       "{}; the run is not started, since what is left does not cover the {} steps to its "
       "next checkpoint",
       passed, steps_to_checkpoint);
}

std::string RunBudget::check(const Totals& own) {
  if (!budget_.has_limits()) return "";
  const bool shared = config_.budget.scope == BudgetScope::kDirectory;
  // Other runs spend too; reading their ledgers may take 0.5 % of the time.
  const auto pause = std::max<Clock::duration>(std::chrono::minutes(1), 200 * read_cost_);
  if (shared && Clock::now() - read_time_ >= pause) refresh();
  const double device_seconds = std::accumulate(own.device_seconds.begin(), own.device_seconds.end(), 0.0);
  const Spending now = priced(device_seconds, own.energy_joules);
  if (has_last_) {
    const std::optional<double> joules =
        now.joules && last_.joules ? std::optional(*now.joules - *last_.joules) : std::nullopt;
    const Spending stretch = priced(now.device_seconds - last_.device_seconds, joules);
    if (stretch.device_seconds > reserve_.device_seconds) reserve_ = stretch;
  }
  last_ = now, has_last_ = true;
  const Spending spent = others_ + now;
  for (const std::string& text : budget_.warnings(spent, unix_time())) log_warning("{}", text);
  return budget_.limit_passed(spent, reserve_, unix_time());
}

}  // namespace jevons
