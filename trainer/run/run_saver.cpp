#include "trainer/run/run_saver.h"

#include <fmt/format.h>

#include <exception>
#include <utility>
#include <vector>

#include "kernels/core/log.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/step/find_nonfinite.h"
#include "trainer/step/run_state.h"

namespace jevons {

std::string checkpoint_dir(const RunConfig& config) {
  return config.run_dir + "/checkpoints";
}

RunSaver::RunSaver(const RunConfig& config, Communicator& world, PhaseClock& clock, Worker& worker,
                   RunReport& report)
    : config_(config),
      world_(world),
      clock_(clock),
      worker_(worker),
      report_(report),
      saver_(world, checkpoint_dir(config), worker.ctx().stream) {}

void RunSaver::stand_on(std::int64_t saved_step, std::uint64_t last_sequence) {
  saved_step_ = saved_step;
  last_sequence_ = last_sequence;
}

void RunSaver::begin(const FailureRecord& failures) {
  if (world_.rank() != 0 || config_.checkpoint.interval != CheckpointConfig::kAuto) return;
  schedule_.emplace(config_.checkpoint, failures, world_.size(), clock_.seconds());
}

bool RunSaver::is_due(std::int64_t step) {
  const std::int64_t interval = config_.checkpoint.interval;
  if (!schedule_) return interval > 0 && step % interval == 0;
  const auto now = clock_.seconds();
  schedule_->step(now, saver_.under_way() ? SaveSchedule::Beside::kSave : SaveSchedule::Beside::kNothing);
  return schedule_->is_due(now);
}

bool RunSaver::make_way(std::int64_t step, SaveOccasion occasion) {
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  // The save under way is of this step only if the run stops right after it began.
  commit(saved_step_ == step ? occasion : SaveOccasion::kInterval);
  if (saved_step_ == step) return false;
  stall_mark_ = seconds_in_phase();
  // What is being deleted may be a checkpoint of this very step that the run has left behind.
  if (deleting_.valid()) deleting_.wait();
  return true;
}

void RunSaver::save(TrainState& state, SaveOccasion occasion) {
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  const std::vector<TensorBox> boxes = boxes_to_save(worker_);
  check_finite(worker_, boxes);
  state.sequence = ++last_sequence_;
  if (schedule_) schedule_->begun(clock_.seconds());
  const bool beside_training = occasion == SaveOccasion::kInterval && config_.checkpoint.asynchronous;
  try {
    saver_.begin(state, boxes, beside_training ? Originals::kCopied : Originals::kLent);
    saved_step_ = state.step;
  } catch (const AgreedError& e) {
    accept_failure(e, occasion, state.step);
  }
  if (!beside_training) commit(occasion);
}

void RunSaver::commit(SaveOccasion occasion) {
  if (!saver_.under_way()) return;
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  try {
    const SavedCheckpoint saved = saver_.commit();
    delete_superfluous(saved.step);
    const double stall = seconds_in_phase() - stall_mark_;
    report_.checkpoint(saved, stall);
    if (schedule_) schedule_->committed(clock_.seconds(), stall);
  } catch (const AgreedError& e) {
    const std::int64_t step = std::exchange(saved_step_, -1);
    accept_failure(e, occasion, step);
  }
}

void RunSaver::accept_failure(const AgreedError& error, SaveOccasion occasion, std::int64_t step) const {
  const bool go_on = config_.checkpoint.on_error == SaveErrorPolicy::kContinue;
  if (occasion == SaveOccasion::kEnd || !go_on) throw AgreedError(error);
  if (error.speaks()) log_warning("step {}: not saved, training goes on: {}", step, error.what());
}

// On a thread: it takes time to delete large files.
void RunSaver::delete_superfluous(std::int64_t committed) {
  if (world_.rank() != 0) return;
  const CheckpointConfig& c = config_.checkpoint;
  const Retention retention{.keep_last = c.keep_last, .keep_every = c.keep_every, .keep_best = c.keep_best};
  if (deleting_.valid()) deleting_.wait();
  deleting_ = std::async(std::launch::async, [dir = checkpoint_dir(config_), committed, retention] {
    try {
      const auto deleted = apply_retention(dir, committed, retention);
      if (!deleted.empty()) log_info("checkpoints of steps {} deleted", fmt::join(deleted, ", "));
    } catch (const std::exception& e) {
      log_warning("older checkpoints are not deleted: {}", e.what());
    }
  });
}

double RunSaver::seconds_in_phase() const {
  return clock_.seconds()[static_cast<std::size_t>(Phase::kCheckpoint)];
}

}  // namespace jevons
