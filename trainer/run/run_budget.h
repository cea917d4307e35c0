// Rank 0's watch over the budget of a run: what this run, or all runs of its project in the directory above,
// have spent, whether the next stretch still fits, when to warn. Rules: docs/cost.md.
#pragma once

#include <chrono>
#include <set>
#include <string>

#include "trainer/config/run_config.h"
#include "trainer/cost/budget.h"

namespace jevons {

class RunBudget {
 public:
  // `devices`: workers of this launch, `own_launch` its identity: what `check` is given is not counted a
  // second time from the ledger. `energy_known`: every host measures it.
  RunBudget(const RunConfig& config, std::int64_t devices, bool energy_known, std::string own_launch);

  // Throws Error(kUsage) when a limit cannot be watched, or when what is left does not cover the start and
  // the steps to the next checkpoint, estimated by tokens from the newest earlier launch of the run that made
  // steps.
  void check_start(std::int64_t steps_to_checkpoint, std::int64_t tokens_to_checkpoint) const;

  // After a step: `own` are the totals of this launch. Logs warnings. Returns why the run must stop now, with
  // room left for its last checkpoint: the costliest stretch between two calls so far; empty: it may go on.
  std::string check(const Totals& own);

 private:
  using Clock = std::chrono::steady_clock;

  void read_ledgers();
  void refresh();
  Spending priced(double device_seconds, std::optional<double> joules) const;

  RunConfig config_;
  std::int64_t devices_;
  bool energy_known_;
  std::string own_launch_;
  RunAccount run_;   // earlier launches of this run
  Spending others_;  // everything in the scope but this launch
  Budget budget_;
  Clock::time_point read_time_;
  Clock::duration read_cost_{};
  std::set<std::string> warned_;  // of ledgers
  Spending last_, reserve_;
  bool has_last_ = false;
};

}  // namespace jevons
