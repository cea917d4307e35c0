#include "trainer/run/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "parallel/host_exchange.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/config/advice.h"
#include "trainer/config/step_plan.h"
#include "trainer/hf/carried.h"
#include "trainer/hf/model_source.h"
#include "trainer/optim/schedule.h"
#include "trainer/run/continuation.h"
#include "trainer/run/data_report.h"
#include "trainer/run/loss_spikes.h"
#include "trainer/run/signals.h"
#include "trainer/step/replica_check.h"
#include "trainer/step/run_state.h"

namespace jevons {
namespace {

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

Trainer::Trainer(const RunConfig& config, ComputeDevice& device, PhaseClock& clock, RunAccounting& account,
                 RunReport& report, const StartOptions& start)
    : config_(config),
      start_(start),
      world_(device.world()),
      clock_(clock),
      account_(account),
      report_(report),
      loader_(open_data(world_, config)),
      validation_set_(*loader_, config.train.eval_samples),
      fingerprint_(loader_->fingerprint()),
      validation_data_(loader_->validation_fingerprint(config.train.eval_samples)),
      worker_(config, world_, device.place(), &clock),
      saver_(config, world_, clock, worker_, report) {
  check_same_data();
  begin();
  span_ = schedule_span(config, {state_.step, state_.consumed_samples});
  if (world_.rank() == 0) {
    say_what_is_read();
    for (const std::string& doubt : doubtful_options(config_, {span_.end, loader_->validation_samples()})) {
      log_warning("{}", doubt);
    }
  }
  account_.begin(state_, span_);
  report_.begin(state_, span_, make_passport(config_, data_identity(), world_.size()));
  saver_.begin(account_.failures());
}

ExitCode Trainer::run() {
  clock_.enter(Phase::kIdle);
  while (state_.step < span_.end) {
    const StepOutcome outcome = step();
    guard(outcome);
    account_.step(state_);
    report_.step(state_, outcome, worker_);
    if (due(state_.step, config_.train.replica_check_interval)) check_replicas(worker_);
    if (due(state_.step, config_.train.eval_interval)) validate();
    if (state_.step == span_.end) break;
    const Agreement next = agree_on_next();
    if (next.stop != StopReason::kNone) {
      save(SaveOccasion::kEnd);
      return finish(next.stop == StopReason::kSignal ? "stopped by a signal" : "stopped, its time is up",
                    ExitCode::kTryAgain);
    }
    if (next.writing == 0) saver_.commit(SaveOccasion::kInterval);
    if (next.save != 0) save(SaveOccasion::kInterval);
  }
  validate();
  config_.checkpoint.final_save ? save(SaveOccasion::kEnd) : saver_.commit(SaveOccasion::kEnd);
  return finish("done", ExitCode::kOk);
}

ExitCode Trainer::finish(const std::string& reason, ExitCode code) {
  const std::string said = account_.finish(reason, code);
  report_.finish(said, worker_);
  return code;
}

// Every rank's reason counts, so that all stop after the same step; and all save, and commit what was saved,
// after the same one.
Trainer::Agreement Trainer::agree_on_next() {
  Agreement next;
  if (start_.deadline && std::chrono::steady_clock::now() >= *start_.deadline)
    next.stop = StopReason::kDeadline;
  if (account_.out_of_budget()) next.stop = StopReason::kBudget;
  if (stop_signal_received()) next.stop = StopReason::kSignal;
  next.writing = saver_.is_writing() ? 1 : 0;
  next.save = saver_.is_due(state_.step) ? 1 : 0;
  std::array agreed = {static_cast<std::int32_t>(next.stop), next.writing, next.save};
  all_reduce(world_, std::span(agreed), ReduceOp::kMax);
  return {static_cast<StopReason>(agreed[0]), agreed[1], agreed[2]};
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
  const std::int64_t tokens = sequences * config_.model.seq_len;
  StepOutcome outcome =
      train_step(worker_, *batch_,
                 {.global_sequences = sequences,
                  .optimizer_step = state_.optimizer_step + 1,
                  .lr = learning_rate(config_.optim, state_.step, span_, state_.consumed_tokens + tokens),
                  .spike_limit = spike_limit(config_.train, state_.recent_losses),
                  .coefficients = coefficients_at(config_, state_.consumed_tokens)});
  state_.step += 1;
  state_.consumed_samples += static_cast<std::uint64_t>(sequences);
  state_.consumed_tokens += tokens;
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
  report_.validation(metrics);
}

void Trainer::save(SaveOccasion occasion) {
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  if (!saver_.make_way(state_.step, occasion)) return;
  check_data();  // lets no rank write before rank 0 has made way
  state_.passport = make_passport(config_, data_identity(), world_.size());
  if (validated_step_ == state_.step && validation_) set_validation(state_, *validation_);
  saver_.save(state_, occasion);
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

// Workers on hosts with other files would train on other data without a word.
void Trainer::check_same_data() {
  const std::string first = broadcast_text(world_, fingerprint_);
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
  const std::optional<TokenFacts>& made_by = loader_->tokenizer();
  return {.fingerprint = fingerprint_,
          .sources = passport_of_sources(*loader_),
          .tokenizer = made_by ? made_by->tokenizer : "",
          .tokenizer_hash = made_by ? made_by->tokenizer_hash : ""};
}

void Trainer::begin() {
  std::string path;
  agree(world_, [&] {
    if (world_.rank() != 0 || start_.resume == "never") return;
    path = start_.resume == "auto" ? latest_checkpoint(checkpoint_dir(config_)).value_or("")
                                   : find_checkpoint(start_.resume);
  });
  path = broadcast_text(world_, path);
  if (!path.empty()) {
    resume(path);
  } else if (!start_.init_from.empty()) {
    take_weights(start_.init_from);
  }
  std::uint64_t last_sequence = 0;
  agree(world_, [&] {
    if (world_.rank() == 0) last_sequence = stand_on(path);
  });
  saver_.stand_on(path.empty() ? -1 : state_.step, last_sequence);
}

// Makes `path`, or the beginning of the run for "", what the run goes on from: on a branch of its own if it
// stood elsewhere. Only rank 0's records know. Returns the newest number in their order.
std::uint64_t Trainer::stand_on(const std::string& path) {
  const std::string dir = checkpoint_dir(config_);
  Catalog catalog(dir);
  const bool stays = catalog.stands_on(path);
  const std::uint64_t branch = stays ? catalog.branch_of_return() : catalog.write_return(path);
  state_.lineage = lineage_from(state_, catalog.origin_of(path), branch);
  if (!stays) {
    log_info("the run goes back, to {}: what it made since is left behind, these steps are branch {}",
             path.empty() ? "its beginning" : path, branch);
  }
  if (config_.checkpoint.keep_last > 0) remove_unfinished(dir, std::numeric_limits<std::int64_t>::max());
  return catalog.last_sequence();
}

void Trainer::resume(const std::string& path) {
  std::unique_ptr<CheckpointReader> reader;
  std::vector<std::string> notices;
  agree(world_, [&] {
    reader = std::make_unique<CheckpointReader>(path);
    if (reader->state().passport.contains("source")) {
      fail(ExitCode::kUsage,
           "{}: has weights but no optimizer state, as imported ones; begin with --init-from {}", path, path);
    }
    notices = check_continuation(reader->state(), path,
                                 {.config = config_.to_yaml(),
                                  .data = fingerprint_,
                                  .tokenizer_hash = data_identity().tokenizer_hash,
                                  .layout = config_.parallel.layout.to_string(),
                                  .allow_data_change = config_.data.allow_change});
  });
  restore(worker_, *reader);
  state_ = reader->state();
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
  const bool first = world_.rank() == 0;
  ModelSource source;
  std::vector<std::string> notices;
  agree(world_, [&] {
    source = open_model(path, first ? SourceCheck::kContents : SourceCheck::kHeaders);
    notices = model_differences(source.state, source.path, config_.to_yaml());
    if (first && !source.carried.empty()) carry_into(source.carried, config_.run_dir);
  });
  const std::int64_t upcycled = restore_weights(worker_, *source.weights);
  if (!first) return;
  log_info("weights from {}, step {}", path, source.state.step);
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
