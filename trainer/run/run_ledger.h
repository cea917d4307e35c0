// Rank 0's hand on the ledger of the run directory: what earlier launches took, and the record of this one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/run_config.h"
#include "trainer/cost/account.h"
#include "trainer/cost/failure_rate.h"
#include "trainer/cost/ledger_pulse.h"

namespace jevons {

// Name of a worker's device in the account.
std::string device_type(const RunConfig& config);

// What is known of a start before its workers meet and look for their devices.
LaunchInfo early_launch_info(const RunConfig& config, int workers);

class RunLedger {
 public:
  // Makes the run directory, reads the ledger if there is one, books the starts that died without a word, and
  // writes the launch record, from which on heartbeats come in time. `hosts`: of every rank. `launch`:
  // identity of this start; empty: a new one. `config` outlives this.
  RunLedger(const RunConfig& config, const std::vector<std::string>& hosts, std::int64_t total_steps,
            const std::string& launch);

  // Sum of the launches before this one.
  const CostSum& before() const { return before_; }
  const FailureRecord& failures() const { return failures_; }  // of those launches
  // Steps begin, at `state`: logs what is lost of earlier launches and will run again. Once.
  void begin(const TrainState& state, const Totals& totals);
  LedgerPulse& pulse() { return pulse_; }

  // Of all launches; nothing when any has no price, or the currency changed.
  std::optional<double> money(double own_device_seconds) const;

 private:
  const RunConfig& config_;
  LedgerPulse pulse_;
  LedgerContents earlier_;  // until begin()
  CostSum before_;
  FailureRecord failures_;
};

}  // namespace jevons
