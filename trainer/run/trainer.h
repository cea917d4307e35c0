// A training run: data, steps, validation, checkpoints, account. Trainer::run reads top to bottom as the run
// goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "data/data_loader.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/cost/sign_of_life.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/passport.h"
#include "trainer/run/run_accounting.h"
#include "trainer/run/run_report.h"
#include "trainer/run/run_saver.h"
#include "trainer/run/validation_set.h"
#include "trainer/step/compute_device.h"
#include "trainer/step/train_step.h"
#include "trainer/step/worker.h"

namespace jevons {

// Where a run begins, when it stops before its end, and where.
struct StartOptions {
  std::string resume = "auto";  // auto: the checkpoint on which the run stands, if any; never; or a path
  std::string init_from;        // else weights from this checkpoint, step 0; empty: random weights
  std::optional<std::chrono::steady_clock::time_point> deadline;
  int local_rank = 0;          // of this worker on its host
  SignOfLife* sign = nullptr;  // of this worker, with the identity of the start; null: none
};

class Trainer {
 public:
  // Collective. `config` must be resolved for the world; all outlive this.
  Trainer(const RunConfig& config, ComputeDevice& device, PhaseClock& clock, RunAccounting& account,
          RunReport& report, const StartOptions& start);

  // Trains to the configured end, or until a stop signal or the deadline: then the run is saved and kTryAgain
  // returned. Collective.
  ExitCode run();

 private:
  enum class StopReason : std::int32_t { kNone, kDeadline, kBudget, kSignal };
  // What all ranks know of each other after a step.
  struct Agreement {
    StopReason stop = StopReason::kNone;  // the weightiest of any rank
    std::int32_t writing = 0;             // 1 while any rank writes a checkpoint
    std::int32_t save = 0;                // 1 if a checkpoint is due
  };
  Agreement agree_on_next();
  void check_same_data();
  void say_what_is_read() const;
  DataIdentity data_identity() const;
  void begin();
  std::uint64_t stand_on(const std::string& path);
  void resume(const std::string& path);
  void take_weights(const std::string& path);
  StepOutcome step();
  void guard(const StepOutcome& outcome);
  void validate();
  void warn_without_targets(Split split);
  void save(SaveOccasion occasion);
  void check_data();
  ExitCode finish(const std::string& reason, ExitCode code);

  const RunConfig& config_;
  StartOptions start_;
  Communicator& world_;
  PhaseClock& clock_;
  RunAccounting& account_;
  RunReport& report_;
  std::unique_ptr<DataLoader> loader_;
  ValidationSet validation_set_;
  std::string fingerprint_;      // of the data, at the start
  std::string validation_data_;  // of what a validation loss depends on but the weights
  Worker worker_;
  std::optional<HostBatch> batch_;  // of the last step, for the memory
  TrainState state_;
  ScheduleSpan span_;
  std::int64_t bad_steps_ = 0;  // consecutive steps that were skipped
  std::int64_t validated_step_ = -1;
  std::optional<Validation> validation_;  // at validated_step_; nothing if its loss is unknown
  std::set<Split> without_targets_;       // where a loss was unknown, which the log has said
  RunSaver saver_;
};

}  // namespace jevons
