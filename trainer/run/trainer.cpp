#include "trainer/run/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/config/advice.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/continuation.h"
#include "trainer/run/data_report.h"
#include "trainer/run/loss_spikes.h"
#include "trainer/run/signals.h"
#include "trainer/step/find_nonfinite.h"
#include "trainer/step/replica_check.h"
#include "trainer/step/run_state.h"
#include "trainer/step/step_plan.h"

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

Trainer::Trainer(const RunConfig& config, ComputeDevice& device, PhaseClock& clock, RunRecorder& recorder,
                 const StartOptions& start)
    : config_(config),
      yaml_(dump_run_config(config)),
      start_(start),
      world_(device.world()),
      clock_(clock),
      recorder_(recorder),
      loader_(open_data(world_, config)),
      validation_set_(*loader_, config.train.eval_samples),
      fingerprint_(loader_->fingerprint()),
      validation_data_(loader_->validation_fingerprint(config.train.eval_samples)),
      worker_(config, world_, device.place(), &clock),
      saver_(world_, checkpoint_dir(config), worker_.ctx().stream) {
  check_same_data();
  begin();
  span_ = schedule_span(config.train, config.model.seq_len, {state_.step, state_.consumed_samples});
  if (world_.rank() == 0) {
    say_what_is_read();
    for (const std::string& doubt : doubtful_options(config_, {span_.end, loader_->validation_samples()})) {
      log_warning("{}", doubt);
    }
  }
  recorder_.begin(state_, span_, data_identity());
  if (world_.rank() == 0 && config.checkpoint.interval == CheckpointConfig::kAuto) {
    schedule_.emplace(config.checkpoint, recorder_.failures(), world_.size(), clock.seconds());
  }
}

ExitCode Trainer::run() {
  clock_.enter(Phase::kIdle);
  while (state_.step < span_.end) {
    const StepOutcome outcome = step();
    guard(outcome);
    recorder_.step(state_, outcome, worker_);
    if (due(state_.step, config_.train.replica_check_interval)) check_replicas(worker_);
    if (due(state_.step, config_.train.eval_interval)) validate();
    if (state_.step == span_.end) break;
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
                                    .lr = learning_rate(config_.optim, state_.step, span_),
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
  validation_.reset();
  if (metrics.loss) {
    validation_ = Validation{*metrics.loss, validation_data_};
  } else {
    warn_without_targets(Split::kValidation);
  }
  recorder_.validation(metrics);
}

void Trainer::save(SaveOccasion occasion) {
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  // A save under way takes the buffers; it is of this step only if the run stops right after it began.
  commit(saved_step_ == state_.step ? occasion : SaveOccasion::kInterval);
  if (saved_step_ == state_.step) return;
  stall_mark_ = clock_.seconds()[static_cast<std::size_t>(Phase::kCheckpoint)];
  // What is being deleted may be a checkpoint of this very step that the run has left behind; check_data()
  // lets no rank write before rank 0 is here.
  if (deleting_.valid()) deleting_.wait();
  check_data();
  const std::vector<TensorBox> boxes = boxes_to_save(worker_);
  check_finite(worker_, boxes);
  state_.passport = recorder_.passport(data_identity());
  if (validated_step_ == state_.step && validation_) set_validation(state_, *validation_);
  state_.sequence = ++last_sequence_;
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
  const std::int64_t left = std::max<std::int64_t>(0, span_.end - state_.step);
  const DataReport report = describe_data(
      *loader_, samples_after(config_.train, state_.consumed_samples, left), config_.train.eval_samples);
  for (const std::string& line : report.lines) log_info("{}", line);
  for (const std::string& line : report.warnings) log_warning("{}", line);
}

DataIdentity Trainer::data_identity() const {
  return {.fingerprint = fingerprint_, .sources = passport_of_sources(*loader_)};
}

void Trainer::begin() {
  std::string path;
  agree(world_, [&] {
    if (world_.rank() != 0 || start_.resume == "never") return;
    path = start_.resume == "auto" ? latest_checkpoint(checkpoint_dir(config_)).value_or("")
                                   : find_checkpoint(start_.resume);
  });
  path = agree_on(world_, path);
  if (!path.empty()) {
    resume(path);
  } else if (!start_.init_from.empty()) {
    take_weights(start_.init_from);
  }
  agree(world_, [&] {
    if (world_.rank() == 0) stand_on(path);
  });
}

// Makes `path`, or the beginning of the run for "", what the run goes on from: on a branch of its own if it
// stood elsewhere. Only rank 0's records know.
void Trainer::stand_on(const std::string& path) {
  const std::string dir = checkpoint_dir(config_);
  Catalog catalog(dir);
  const bool stays = catalog.stands_on(path);
  const std::uint64_t branch = stays ? catalog.branch_of_return() : catalog.write_return(path);
  state_.lineage = lineage_from(state_, catalog.origin_of(path), branch);
  last_sequence_ = catalog.last_sequence();
  if (!stays) {
    log_info("the run goes back, to {}: what it made since is left behind, these steps are branch {}",
             path.empty() ? "its beginning" : path, branch);
  }
  if (config_.checkpoint.keep_last > 0) remove_unfinished(dir, std::numeric_limits<std::int64_t>::max());
}

void Trainer::resume(const std::string& path) {
  std::unique_ptr<CheckpointReader> reader;
  std::vector<std::string> notices;
  agree(world_, [&] {
    reader = std::make_unique<CheckpointReader>(path);
    notices = check_continuation(reader->state(), path,
                                 {.config = yaml_,
                                  .data = fingerprint_,
                                  .layout = config_.parallel.layout.to_string(),
                                  .allow_data_change = config_.data.allow_change});
  });
  restore(worker_, *reader);
  state_ = reader->state();
  saved_step_ = state_.step;
  // A run that was validated where it ended is not validated there again.
  validation_ = validation_of(state_);
  if (validation_ && (validation_->data.empty() || validation_->data == validation_data_)) {
    validated_step_ = state_.step;
  }
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

}  // namespace jevons
