// What a launch of a run takes: device-seconds by phase, energy, money, and whether the budget lasts. The
// figures of all ranks come together in one small sum per step; rank 0 keeps ledger and budget. Asks and
// answers, prints nothing.
#pragma once

#include <optional>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/phase_clock.h"
#include "parallel/communicator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/run_config.h"
#include "trainer/cost/failure_rate.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/host_energy.h"
#include "trainer/run/run_budget.h"
#include "trainer/run/run_ledger.h"

namespace jevons {

class RunAccounting {
 public:
  // Begins the account of this launch in the run directory's ledger, before anything that takes time.
  // `config` must be resolved for the world and outlive this; `launch`: identity of this start, as RunLedger
  // takes it. Collective.
  RunAccounting(const RunConfig& config, Communicator& world, PhaseClock& clock, const std::string& launch);

  // Steps begin, at `state`, with those of `span` before them; says what earlier launches have cost. Throws
  // AgreedError(kUsage) when the budget does not cover the start. Collective.
  void begin(const TrainState& state, const ScheduleSpan& span);
  // After every step. Collective.
  void step(const TrainState& state);
  // Takes the last figures and writes the ledger's exit record. Returns the reason that stands there on rank
  // 0: the budget's, if that is why. Collective.
  std::string finish(const std::string& reason, ExitCode code);
  // The exit record of a launch that an error ends; on rank 0, nothing elsewhere. Not collective, never
  // throws.
  void end_by_error(const std::string& message, ExitCode code) noexcept;

  // After step(), on rank 0: the budget does not last for another step and its checkpoint.
  bool out_of_budget() const { return !stop_reason_.empty(); }
  // How often the launches before this one have died. On rank 0, none elsewhere.
  FailureRecord failures() const { return ledger_ ? ledger_->failures() : FailureRecord(); }

  // Of this launch, all workers', as of the last step.
  const Totals& totals() const { return totals_; }
  double own_device_seconds() const;
  // Of all launches. Of rank 0 alone; no money where a price is not known.
  double device_seconds() const { return ledger_->before().device_seconds + own_device_seconds(); }
  std::optional<double> money() const { return ledger_->money(own_device_seconds()); }

 private:
  void gather();
  void open_budget(const TrainState& state, const ScheduleSpan& span);

  const RunConfig& config_;
  Communicator& world_;
  PhaseClock& clock_;
  HostEnergy energy_;
  Totals totals_;
  // Rank 0 only.
  std::optional<RunLedger> ledger_;
  std::optional<RunBudget> budget_;
  std::string stop_reason_;  // of the budget; empty: go on
};

}  // namespace jevons
