// A training run: data, steps, validation, checkpoints, account. Trainer::run reads top to bottom as the run
// goes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/data_loader.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/run_recorder.h"
#include "trainer/train_step.h"
#include "trainer/worker.h"

namespace jevons {

class Trainer {
 public:
  // Collective. `config` must be resolved for the world; `yaml` is its text, for the passport. `resume`:
  // "auto", "never", or a checkpoint's path.
  Trainer(const RunConfig& config, const std::string& yaml, Communicator& world, PhaseClock& clock,
          const std::string& resume);

  // Trains to the configured end, or until a stop signal: then the run is saved and kTryAgain returned.
  // Collective.
  ExitCode run();

 private:
  void resume_from(const std::string& choice);
  void check_resumable(const CheckpointReader& reader, const std::string& path) const;
  StepOutcome step();
  void guard(const StepOutcome& outcome);
  void validate();
  void save();

  RunConfig config_;
  Communicator& world_;
  PhaseClock& clock_;
  std::unique_ptr<DataLoader> loader_;
  Worker worker_;
  std::int64_t total_steps_;
  TrainState state_;
  std::int64_t bad_steps_ = 0;    // consecutive steps that were skipped
  std::int64_t saved_step_ = -1;  // newest step in a checkpoint
  std::int64_t validated_step_ = -1;
  RunRecorder recorder_;
};

}  // namespace jevons
