// When to save, for checkpoint.interval = auto: rank 0 measures what a save costs training, asks the ledger
// how often launches die, and takes the interval that loses least (trainer/cost/failure_rate.h).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include "kernels/core/phase_clock.h"
#include "trainer/config/run_config.h"
#include "trainer/cost/failure_rate.h"

namespace jevons {

class SaveSchedule {
 public:
  using Seconds = std::array<double, kNumPhases>;  // PhaseClock::seconds(): their sum is the time

  // `history`: of the launches before this one of `devices` workers. `now`: when steps begin.
  SaveSchedule(const CheckpointConfig& config, const FailureRecord& history, std::int64_t devices,
               const Seconds& now);

  // After every step, with what was under way beside it.
  enum class Beside { kNothing, kSave };
  void step(const Seconds& now, Beside beside);
  // A save began, or was tried.
  void begun(const Seconds& now);
  // The save that began last is committed; training stalled for so many seconds.
  void committed(const Seconds& now, double stall);

  bool is_due(const Seconds& now) const;
  // Seconds from the beginning of one save to that of the next. Before the first commit: the shortest
  // allowed.
  double interval() const { return interval_; }

 private:
  void choose(const Seconds& now);

  CheckpointConfig config_;
  FailureRecord history_;
  std::int64_t devices_;
  double interval_;
  double begun_;                        // time of the last save, or of the start
  Seconds last_{};                      // after the step before
  std::deque<double> quiet_;            // seconds of the last steps with nothing beside them
  std::deque<double> beside_;           // of those beside the save under way
  std::deque<double> stalls_, slowed_;  // seconds that the last saves cost: in the stall, in slower steps
  double explained_ = 0;                // the interval that the log has explained
};

}  // namespace jevons
