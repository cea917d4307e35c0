// What a run tells the outside: console, metrics, TensorBoard, ledger, passport, logs. Rank 0 writes; the
// figures of all ranks come together in one small sum per step. Trainer decides when, this decides how.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/phase_clock.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/config/run_config.h"
#include "trainer/cost/failure_rate.h"
#include "trainer/optim/schedule.h"
#include "trainer/report/step_metrics.h"
#include "trainer/step/train_step.h"

namespace jevons {

// What a run reads, for its passport.
struct DataIdentity {
  std::string fingerprint;  // DataLoader::fingerprint
  std::string sources;      // passport_of_sources
};

class RunRecorder {
 public:
  // Begins the account of this launch in the run directory's ledger, before anything that takes time.
  // `config` must be resolved for the world; `launch`: identity of this start, as RunLedger takes it.
  // Collective.
  RunRecorder(const RunConfig& config, Communicator& world, PhaseClock& clock, const std::string& launch);
  ~RunRecorder();

  // Steps begin, at `state`, with those of `span` before them: opens metrics, writes config.yaml and
  // passport.json, says what earlier launches have cost. Throws Error(kUsage) on all ranks when the budget
  // does not cover the start. Collective.
  void begin(const TrainState& state, const ScheduleSpan& span, const DataIdentity& data);
  // After every step. Collective.
  void step(const TrainState& state, const StepOutcome& outcome, Worker& worker);
  void validation(const ValidationMetrics& metrics);
  // `stall`: seconds that this checkpoint has held up training.
  void checkpoint(const SavedCheckpoint& saved, double stall);
  // After step(), on rank 0: the budget does not last for another step and its checkpoint.
  bool out_of_budget() const;
  // Last words: totals, memory against the dry run, the ledger's exit record. Collective.
  void finish(std::string reason, ExitCode code, Worker& worker);
  // The exit record of a launch that an error ends; on rank 0, nothing elsewhere. Not collective, never
  // throws.
  void end_by_error(const std::string& message, ExitCode code) noexcept;

  // Of one worker, by a dry run on rank 0, which logs it; the same on all ranks. Collective.
  const MemoryReport& predict_memory();
  // On rank 0: how often the launches before this one have died.
  FailureRecord failures() const;

  // Identity of the run for checkpoints: config, layout, data, versions.
  std::map<std::string, std::string> passport(const DataIdentity& data) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jevons
