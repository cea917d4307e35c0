#include "trainer/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/config/advice.h"
#include "trainer/continuation.h"
#include "trainer/data_report.h"
#include "trainer/find_nonfinite.h"
#include "trainer/loss_spikes.h"
#include "trainer/optim/schedule.h"
#include "trainer/replica_check.h"
#include "trainer/run_state.h"
#include "trainer/signals.h"
#include "trainer/step_plan.h"
#include "trainer/watchdog_report.h"

namespace jevons {
namespace {

std::string checkpoint_dir(const RunConfig& config) {
  return config.run_dir + "/checkpoints";
}

// A missing or damaged file is one message, not one per worker.
std::unique_ptr<DataLoader> open_data(Communicator& world, const RunConfig& config) {
  std::unique_ptr<DataLoader> loader;
  agree(world, [&] { loader = std::make_unique<DataLoader>(config.data, config.model.vocab_size); });
  return loader;
}

bool due(std::int64_t step, std::int64_t interval) {
  return interval > 0 && step % interval == 0;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const std::string& yaml, ComputeDevice& device, PhaseClock& clock,
                 RunRecorder& recorder, const StartOptions& start)
    : config_(config),
      yaml_(yaml),
      start_(start),
      world_(device.world()),
      clock_(clock),
      recorder_(recorder),
      loader_(open_data(world_, config)),
      validation_set_(*loader_, config.train.eval_samples),
      fingerprint_(loader_->fingerprint()),
      worker_(config, world_, device.place(), &clock),
      total_steps_(total_steps(config.train, config.model.seq_len)),
      saver_(world_, checkpoint_dir(config), worker_.ctx().stream) {
  check_same_data();
  begin();
  if (world_.rank() == 0) {
    say_what_is_read();
    for (const std::string& doubt :
         doubtful_options(config_, {total_steps_, loader_->validation_samples()})) {
      log_warning("{}", doubt);
    }
  }
  recorder_.begin(state_, data_identity());
  if (world_.rank() == 0 && config.checkpoint.interval == CheckpointConfig::kAuto) {
    schedule_.emplace(config.checkpoint, recorder_.failures(), world_.size(), clock.seconds());
  }
}

ExitCode Trainer::run() {
  clock_.enter(Phase::kIdle);
  while (state_.step < total_steps_) {
    const StepOutcome outcome = step();
    guard(outcome);
    recorder_.step(state_, outcome, worker_);
    if (due(state_.step, config_.train.replica_check_interval)) check_replicas(worker_);
    if (due(state_.step, config_.train.eval_interval)) validate();
    if (state_.step == total_steps_) break;
    const Agreement next = agree_on_next();
    if (next.stop != StopReason::kNone) {
      save(SaveOccasion::kEnd);
      recorder_.finish(next.stop == StopReason::kSignal ? "stopped by a signal" : "stopped, its time is up",
                       ExitCode::kTryAgain, worker_);
      return ExitCode::kTryAgain;
    }
    if (next.writing == 0) commit(SaveOccasion::kInterval);
    if (next.save != 0 || due(state_.step, config_.checkpoint.interval)) save(SaveOccasion::kInterval);
  }
  validate();
  config_.checkpoint.final_save ? save(SaveOccasion::kEnd) : commit(SaveOccasion::kEnd);
  recorder_.finish("done", ExitCode::kOk, worker_);
  return ExitCode::kOk;
}

// Every rank's reason counts, so that all stop after the same step; and all save, and commit what was saved,
// after the same one.
Trainer::Agreement Trainer::agree_on_next() {
  Agreement next;
  if (start_.deadline && std::chrono::steady_clock::now() >= *start_.deadline)
    next.stop = StopReason::kDeadline;
  if (recorder_.out_of_budget()) next.stop = StopReason::kBudget;
  if (stop_signal_received()) next.stop = StopReason::kSignal;
  next.writing = saver_.is_writing() ? 1 : 0;
  if (schedule_) {
    const auto now = clock_.seconds();
    schedule_->step(now, saver_.under_way() ? SaveSchedule::Beside::kSave : SaveSchedule::Beside::kNothing);
    next.save = schedule_->is_due(now) ? 1 : 0;
  }
  static_assert(sizeof(Agreement) == 3 * sizeof(std::int32_t));
  world_.all_reduce({&next, {3}, DType::kI32, Device::kCpu}, ReduceOp::kMax).wait();
  return next;
}

StepOutcome Trainer::step() {
  const auto begin = std::chrono::steady_clock::now();
  Whereabouts* const whereabouts = clock_.whereabouts();
  if (whereabouts != nullptr) whereabouts->begin_step(state_.step + 1);
  const std::int64_t sequences = batch_size_at(config_.train, state_.consumed_samples);
  const std::int64_t mine = sequences / worker_.dp_size();
  if (!batch_ || batch_->sequences != mine) batch_.emplace(mine, config_.model.seq_len, worker_.ctx().device);
  {
    const PhaseScope phase(&clock_, Phase::kData);
    const std::uint64_t offset = static_cast<std::uint64_t>(mine * worker_.dp_rank());
    loader_->read(Split::kTrain, state_.consumed_samples + offset, batch_->view());
    loader_->prefetch(state_.consumed_samples + static_cast<std::uint64_t>(sequences) + offset, mine);
  }
  StepOutcome outcome = train_step(worker_, *batch_,
                                   {.global_sequences = sequences,
                                    .optimizer_step = state_.optimizer_step + 1,
                                    .lr = learning_rate(config_.optim, state_.step, total_steps_),
                                    .spike_limit = spike_limit(config_.train, state_.recent_losses)});
  state_.step += 1;
  state_.consumed_samples += static_cast<std::uint64_t>(sequences);
  state_.consumed_tokens += sequences * config_.model.seq_len;
  if (!outcome.skipped) {
    state_.optimizer_step += 1;
    remember_loss(config_.train, *outcome.loss, state_.recent_losses);
  }
  if (whereabouts != nullptr) whereabouts->end_step();
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return outcome;
}

void Trainer::guard(const StepOutcome& outcome) {
  if (!outcome.skipped) {
    bad_steps_ = 0;
    return;
  }
  if (!outcome.loss) warn_without_targets(Split::kTrain);
  if (!outcome.loss && outcome.is_finite()) return;  // nothing to learn is no fault of the numbers
  bad_steps_ += 1;
  const std::string loss = outcome.loss ? fmt::format("{}", *outcome.loss) : "unknown";
  const std::string what = outcome.spike ? fmt::format("loss {} is a spike (train.spike_zscore)", loss)
                                         : fmt::format("loss {} and gradient norm {} are not both finite; {}",
                                                       loss, outcome.grad_norm, outcome.origin);
  if (world_.rank() == 0) {
    log_warning("step {}: {}; the step is skipped ({} in a row)", state_.step, what, bad_steps_);
  }
  const bool stop = !outcome.spike && config_.train.on_bad_step == BadStepPolicy::kStop;
  if (!stop && bad_steps_ < config_.train.max_bad_steps) return;
  agree(world_, [&] {
    if (stop) fail(ExitCode::kFailure, "step {}: {} (train.on_bad_step = stop)", state_.step, what);
    fail(ExitCode::kFailure, "step {}: {} steps in a row were skipped (train.max_bad_steps); the last: {}",
         state_.step, bad_steps_, what);
  });
}

// Once a launch for each split.
void Trainer::warn_without_targets(Split split) {
  if (!without_targets_.insert(split).second || world_.rank() != 0) return;
  const char* why = "every next token belongs to another document (data.document_mask)";
  if (split == Split::kTrain) {
    log_warning("step {}: the batch has no target token, {}: its loss is unknown, and no weight is changed",
                state_.step, why);
  } else {
    log_warning("step {}: the validation data has no target token, {}: its loss is unknown", state_.step,
                why);
  }
}

void Trainer::validate() {
  if (validation_set_.empty() || validated_step_ == state_.step) return;
  validated_step_ = state_.step;
  const ValidationMetrics metrics = validation_set_.measure(worker_, state_.step);
  validation_loss_ = metrics.loss;
  if (!validation_loss_) warn_without_targets(Split::kValidation);
  recorder_.validation(metrics);
}

void Trainer::save(SaveOccasion occasion) {
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  // A save under way takes the buffers; it is of this step only if the run stops right after it began.
  commit(saved_step_ == state_.step ? occasion : SaveOccasion::kInterval);
  if (saved_step_ == state_.step) return;
  stall_mark_ = clock_.seconds()[static_cast<std::size_t>(Phase::kCheckpoint)];
  check_data();
  const std::vector<TensorBox> boxes = boxes_to_save(worker_);
  check_finite(worker_, boxes);
  state_.passport = recorder_.passport(data_identity());
  if (validated_step_ == state_.step && validation_loss_) set_validation_loss(state_, *validation_loss_);
  if (schedule_) schedule_->begun(clock_.seconds());
  const bool beside_training = occasion == SaveOccasion::kInterval && config_.checkpoint.asynchronous;
  try {
    saver_.begin(state_, boxes, beside_training ? Originals::kCopied : Originals::kLent);
    saved_step_ = state_.step;
  } catch (const AgreedError& e) {
    accept_failure(e, occasion, state_.step);
  }
  if (!beside_training) commit(occasion);
}

// Of the save under way, if there is one; waits for the files.
void Trainer::commit(SaveOccasion occasion) {
  if (!saver_.under_way()) return;
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  try {
    const SavedCheckpoint saved = saver_.commit();
    delete_superfluous(saved.step);
    const double stall = clock_.seconds()[static_cast<std::size_t>(Phase::kCheckpoint)] - stall_mark_;
    recorder_.checkpoint(saved, stall);
    if (schedule_) schedule_->committed(clock_.seconds(), stall);
  } catch (const AgreedError& e) {
    const std::int64_t step = std::exchange(saved_step_, -1);
    accept_failure(e, occasion, step);
  }
}

void Trainer::accept_failure(const AgreedError& error, SaveOccasion occasion, std::int64_t step) {
  const bool go_on = config_.checkpoint.on_error == SaveErrorPolicy::kContinue;
  if (occasion == SaveOccasion::kEnd || !go_on) throw AgreedError(error);
  if (error.speaks()) log_warning("step {}: not saved, training goes on: {}", step, error.what());
}

// Token files must not change under a run; what was read since the last checkpoint may be either.
void Trainer::check_data() {
  agree(world_, [&] {
    if (world_.rank() != 0) return;
    const std::string now = loader_->fingerprint();
    if (now != fingerprint_ && !config_.data.allow_change) {
      fail(
          ExitCode::kData,
          "step {}: the token files have changed since this launch (fingerprint {} -> {}); nothing is saved. "
          "Restore them and start again, or say that the change is meant with data.allow_change=true",
          state_.step, fingerprint_, now);
    }
    fingerprint_ = now;
  });
}

// On a thread: it takes time to delete large files.
void Trainer::delete_superfluous(std::int64_t committed) {
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

// Workers on hosts with other files would train on other data without a word.
void Trainer::check_same_data() {
  const std::string first = agree_on(world_, fingerprint_);
  agree(world_, [&] {
    if (fingerprint_ == first) return;
    fail(ExitCode::kData, "worker {} sees other token files than worker 0 (fingerprints {} and {})",
         world_.rank(), fingerprint_, first);
  });
}

void Trainer::say_what_is_read() const {
  const std::int64_t left = std::max<std::int64_t>(0, total_steps_ - state_.step);
  const DataReport report = describe_data(
      *loader_, samples_after(config_.train, state_.consumed_samples, left), config_.train.eval_samples);
  for (const std::string& line : report.lines) log_info("{}", line);
  for (const std::string& line : report.warnings) log_warning("{}", line);
}

DataIdentity Trainer::data_identity() const {
  return {.fingerprint = fingerprint_, .sources = passport_of_sources(*loader_)};
}

void Trainer::begin() {
  std::string path = start_.resume == "never" ? "" : start_.resume;
  if (start_.resume == "auto") {
    if (world_.rank() == 0) path = latest_checkpoint(checkpoint_dir(config_)).value_or("");
    path = agree_on(world_, path);
  }
  if (!path.empty()) {
    resume(path);
  } else if (!start_.init_from.empty()) {
    take_weights(start_.init_from);
  }
}

void Trainer::resume(const std::string& path) {
  std::unique_ptr<CheckpointReader> reader;
  std::vector<std::string> notices;
  agree(world_, [&] {
    reader = std::make_unique<CheckpointReader>(find_checkpoint(path));
    notices = check_continuation(reader->state(), path,
                                 {.config = yaml_,
                                  .data = fingerprint_,
                                  .layout = config_.parallel.layout.to_string(),
                                  .allow_data_change = config_.data.allow_change});
  });
  restore(worker_, *reader);
  state_ = reader->state();
  saved_step_ = state_.step;
  if (world_.rank() != 0) return;
  log_info("resumed from {} at step {}", path, state_.step);
  if (!notices.empty()) log_warning("changed since that checkpoint:\n  {}", fmt::join(notices, "\n  "));
}

void Trainer::take_weights(const std::string& path) {
  std::unique_ptr<CheckpointReader> reader;
  std::vector<std::string> notices;
  agree(world_, [&] {
    reader = std::make_unique<CheckpointReader>(find_checkpoint(path));
    notices = model_differences(reader->state(), path, yaml_);
  });
  const std::int64_t upcycled = restore_weights(worker_, *reader);
  if (world_.rank() != 0) return;
  log_info("weights from {}, step {}", path, reader->state().step);
  if (!notices.empty()) log_warning("the model differs from that one's:\n  {}", fmt::join(notices, "\n  "));
  if (upcycled == 0) return;
  log_info("{} layers upcycled: each expert starts as the dense FFN", upcycled);
  const MoeConfig& moe = config_.model.moe;
  if (!moe.router.renormalize || moe.router.scaling_factor != 1 || moe.capacity_factor > 0) {
    log_warning(
        "the upcycled model does not begin with the dense model's outputs: that takes "
        "model.moe.router.renormalize = true, scaling_factor = 1 and no capacity_factor");
  }
}

namespace {

// What fails inside a step, as a collective, the device or a kernel, does not know where in the model it is.
Error with_position(const Error& error, const Whereabouts* whereabouts) {
  const WorkerPlace place = whereabouts != nullptr ? whereabouts->now() : WorkerPlace();
  if (!place.in_step) return error;
  return Error(error.code(), fmt::format("{}: {}", describe_position(place), error.what()));
}

// Before what this worker computes with is destroyed: the others may not come any more to what its device
// waits for. A device that does not let go would keep it from ever telling them.
void leave_alone(std::optional<ComputeDevice>& device, const Error& error, Communicator& world) {
  if (!device || device->cut_links()) return;
  log_error("{}; the device does not let go of what it does with other workers", error.what());
  log_flush();
  world.abort(static_cast<int>(error.code()));
}

}  // namespace

ExitCode train(const RunConfig& config, const std::string& yaml, Communicator& world, PhaseClock& clock,
               const StartOptions& start) {
  RunRecorder recorder(config, yaml, world, clock, start.sign != nullptr ? start.sign->launch() : "");
  if (start.sign != nullptr) start.sign->booked();
  std::optional<ComputeDevice> device;  // these outlive an error: what to do before they end is decided then
  std::optional<Trainer> trainer;
  try {
    device.emplace(config.device, start.local_rank, world);
    device->require_memory(recorder.predict_memory(), config);
    trainer.emplace(config, yaml, *device, clock, recorder, start);
    return trainer->run();
  } catch (const AgreedError& e) {
    recorder.end_by_error(e.what(), e.code());
    leave_alone(device, e, world);
    throw;
  } catch (const Error& e) {
    const Error placed = with_position(e, clock.whereabouts());
    recorder.end_by_error(placed.what(), placed.code());
    leave_alone(device, placed, world);
    throw placed;
  } catch (const std::exception& e) {
    recorder.end_by_error(e.what(), ExitCode::kFailure);
    leave_alone(device, Error(ExitCode::kFailure, e.what()), world);
    throw;
  }
}

}  // namespace jevons
