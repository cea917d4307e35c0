#include "trainer/trainer.h"

#include <algorithm>
#include <filesystem>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/agree.h"
#include "trainer/optim/schedule.h"
#include "trainer/run_state.h"
#include "trainer/signals.h"
#include "trainer/step_plan.h"

namespace jevons {
namespace {

std::string checkpoint_dir(const RunConfig& config) {
  return config.run_dir + "/checkpoints";
}

// Rank 0's text on every rank: what it sees of a shared file system decides.
std::string agree_on(Communicator& world, std::string text) {
  std::int64_t length = static_cast<std::int64_t>(text.size());
  world.broadcast({&length, {1}, DType::kI64, Device::kCpu}, 0).wait();
  text.resize(static_cast<std::size_t>(length));
  if (length > 0) world.broadcast({text.data(), {length}, DType::kU8, Device::kCpu}, 0).wait();
  return text;
}

// A missing or damaged file is one message, not one per worker.
std::unique_ptr<DataLoader> open_data(Communicator& world, const RunConfig& config) {
  std::unique_ptr<DataLoader> loader;
  agree(world, [&] { loader = std::make_unique<DataLoader>(config.data, config.model.vocab_size); });
  return loader;
}

bool any_rank(Communicator& world, bool mine) {
  std::int32_t flag = mine ? 1 : 0;
  world.all_reduce({&flag, {1}, DType::kI32, Device::kCpu}, ReduceOp::kMax).wait();
  return flag != 0;
}

bool due(std::int64_t step, std::int64_t interval) {
  return interval > 0 && step % interval == 0;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, const std::string& yaml, Communicator& world, PhaseClock& clock,
                 const std::string& resume)
    : config_(config),
      world_(world),
      clock_(clock),
      loader_(open_data(world, config)),
      worker_(config, world, Device::kCpu, &clock),
      total_steps_(total_steps(config.train, config.model.seq_len)),
      recorder_(config, yaml, world, clock, total_steps_) {
  resume_from(resume);
  recorder_.launch(state_, loader_->fingerprint());
}

ExitCode Trainer::run() {
  while (state_.step < total_steps_) {
    const StepOutcome outcome = step();
    guard(outcome);
    recorder_.step(state_, outcome, worker_);
    if (due(state_.step, config_.train.eval_interval)) validate();
    const bool stop = any_rank(world_, stop_signal_received());
    if (stop || due(state_.step, config_.checkpoint.interval)) save();
    if (stop && state_.step < total_steps_) {
      recorder_.finish("stopped by a signal", ExitCode::kTryAgain, worker_);
      return ExitCode::kTryAgain;
    }
  }
  validate();
  save();
  recorder_.finish("done", ExitCode::kOk, worker_);
  return ExitCode::kOk;
}

StepOutcome Trainer::step() {
  const std::int64_t sequences = batch_size_at(config_.train, state_.consumed_samples);
  const std::int64_t mine = sequences / worker_.dp_size();
  HostBatch batch(mine, config_.model.seq_len);
  {
    const PhaseScope phase(&clock_, Phase::kData);
    const std::uint64_t offset = static_cast<std::uint64_t>(mine * worker_.dp_rank());
    loader_->read(Split::kTrain, state_.consumed_samples + offset, batch.view());
    loader_->prefetch(state_.consumed_samples + static_cast<std::uint64_t>(sequences) + offset, mine);
  }
  const StepOutcome outcome = train_step(worker_, batch,
                                         {.global_sequences = sequences,
                                          .optimizer_step = state_.optimizer_step + 1,
                                          .lr = learning_rate(config_.optim, state_.step, total_steps_)});
  state_.step += 1;
  state_.consumed_samples += static_cast<std::uint64_t>(sequences);
  state_.consumed_tokens += sequences * config_.model.seq_len;
  if (!outcome.skipped) state_.optimizer_step += 1;
  return outcome;
}

void Trainer::guard(const StepOutcome& outcome) {
  if (!outcome.skipped) {
    bad_steps_ = 0;
    return;
  }
  bad_steps_ += 1;
  if (world_.rank() == 0) {
    log_warning(
        "step {}: loss {} and gradient norm {} are not both finite; the step is skipped ({} in a row)",
        state_.step, outcome.loss, outcome.grad_norm, bad_steps_);
  }
  if (bad_steps_ >= config_.train.max_bad_steps) {
    fail(ExitCode::kFailure,
         "step {}: {} steps in a row had a loss or gradient that is not finite "
         "(train.max_bad_steps)",
         state_.step, bad_steps_);
  }
}

void Trainer::validate() {
  const std::int64_t available = loader_->validation_samples();
  const std::int64_t wanted = config_.train.eval_samples;
  const std::int64_t samples = wanted > 0 ? std::min(wanted, available) : available;
  if (samples == 0 || validated_step_ == state_.step) return;
  validated_step_ = state_.step;
  const std::int64_t micro = config_.train.micro_batch_size, stride = micro * worker_.dp_size();
  const auto fill = [&](std::int64_t round, HostBatch& batch) {
    // Every worker takes part in every round; past the end its targets are masked.
    const std::int64_t first = round * stride + micro * worker_.dp_rank();
    const std::int64_t valid = std::clamp<std::int64_t>(samples - first, 0, micro);
    const auto filled = static_cast<std::size_t>(valid * config_.model.seq_len);
    BatchView view = batch.view();
    std::fill(view.targets.begin(), view.targets.end(), -1);
    if (valid == 0) return;
    loader_->read(Split::kValidation, static_cast<std::uint64_t>(first),
                  {view.tokens.first(filled), view.targets.first(filled), view.doc_start.first(filled)});
  };
  const double loss = evaluate(worker_, (samples + stride - 1) / stride, fill);
  recorder_.validation(state_, loss, loader_->validation_bytes_per_token());
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  const PhaseScope phase(&clock_, Phase::kCheckpoint);
  state_.passport = recorder_.passport(loader_->fingerprint());
  const std::string path = save_checkpoint(world_, checkpoint_dir(config_), state_, boxes_to_save(worker_));
  saved_step_ = state_.step;
  recorder_.checkpoint(state_, path);
}

void Trainer::resume_from(const std::string& choice) {
  if (choice == "never") return;
  std::string path = choice;
  if (choice == "auto") {
    if (world_.rank() == 0) path = latest_checkpoint(checkpoint_dir(config_)).value_or("");
    path = agree_on(world_, path);
  }
  if (path.empty()) return;
  std::unique_ptr<CheckpointReader> reader;
  agree(world_, [&] {
    reader = std::make_unique<CheckpointReader>(find_checkpoint(path));
    check_resumable(*reader, path);
  });
  restore(worker_, *reader);
  state_ = reader->state();
  saved_step_ = state_.step;
  if (world_.rank() == 0) log_info("resumed from {} at step {}", path, state_.step);
}

void Trainer::check_resumable(const CheckpointReader& reader, const std::string& path) const {
  const auto& passport = reader.state().passport;
  const auto text = passport.find("config");
  if (text == passport.end()) fail(ExitCode::kData, "{}: the checkpoint's passport has no config", path);
  const RunConfig saved = parse_run_config(text->second, path + " (passport)", {});
  if (saved.model != config_.model) {
    fail(ExitCode::kUsage,
         "{}: the model of this checkpoint is not the configured one; start with --resume never and another "
         "run.name, or restore the model section (jevons checkpoint inspect shows it)",
         path);
  }
  const auto data = passport.find("data");
  if (data != passport.end() && data->second != loader_->fingerprint() && world_.rank() == 0) {
    log_warning("the training data differ from those of the checkpoint {}", path);
  }
}

}  // namespace jevons
