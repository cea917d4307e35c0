// Rules of a whole run: the sections' own, and those that tie sections together.
#include <cctype>

#include "trainer/config/data_section.h"
#include "trainer/config/model_section.h"
#include "trainer/config/optim_section.h"
#include "trainer/config/run_config.h"
#include "trainer/config/step_plan.h"

namespace jevons {
namespace {

const std::string kMicroBatch = "train.micro_batch_size";

void check_name(const std::string& name, Rules& rules) {
  const auto good = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; };
  rules.require(
      {"name"},
      [&] { return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), good); },
      "name = \"{}\" cannot name a directory; use letters, digits, - _ and .", name);
}

// Within it no count of tokens, elements or bytes overflows 64 bits, whatever the rest is.
void check_pass(const RunConfig& config, Rules& rules) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 28;
  const std::int64_t sequences = config.train.micro_batch_size, length = config.model.seq_len;
  rules.require(
      {kMicroBatch, "model.seq_len"}, [&] { return sequences <= kMostTokens / length; },
      "train.micro_batch_size * model.seq_len = {} * {} tokens are too many for a pass; at most {}",
      sequences, length, kMostTokens);
}

// The largest multiple of `unit` below `value` and the smallest above, for advice.
std::string multiples_around(std::int64_t value, std::int64_t unit) {
  const std::int64_t below = value / unit * unit;
  return below == 0 ? fmt::format("{}", unit) : fmt::format("{} or {}", below, below + unit);
}

// That batches can be split over the data-parallel workers, once their number is known.
void check_split(const std::string& key, std::int64_t value, const RunConfig& config, Rules& rules) {
  const int dp = config.parallel.layout.dp;
  const std::int64_t micro = config.train.micro_batch_size, unit = micro * dp;
  if (dp == 0) return;
  rules.require(
      {key, kMicroBatch, "parallel"}, [&] { return value % unit == 0; },
      "{} = {} is not divisible by train.micro_batch_size * parallel.dp = {} * {}; {} would fit", key, value,
      micro, dp, multiples_around(value, unit));
}

// That a pipeline's schedule takes the micro-batches of every step.
void check_micro_batches(const RunConfig& config, Rules& rules) {
  const TrainConfig& train = config.train;
  const std::int64_t unit = sequences_per_pass(config) * config.parallel.layout.dp;
  if (unit == 0) return;
  check_schedule(config.parallel, train.global_batch_size / unit, "train.global_batch_size", rules);
  if (train.batch_ramp_start <= 0) return;
  rules.require(
      {"parallel.schedule_file", "train.batch_ramp_start"},
      [&] { return config.parallel.pipeline.file.empty(); },
      "parallel.schedule_file is a list for one number of micro-batches; train.batch_ramp_start changes it");
  for (std::int64_t batch = train.batch_ramp_start; batch < train.global_batch_size;
       batch += train.batch_ramp_start) {
    check_schedule(config.parallel, batch / unit, "train.batch_ramp_start", rules);
    if (!rules.are_good({"train.batch_ramp_start", "parallel.schedule"})) return;
  }
}

// What stands in the way of the same bits on every layout (docs/numerics.md).
void check_numerics(const RunConfig& config, Rules& rules) {
  if (config.numerics != Numerics::kLayoutInvariant) return;
  const auto needs = [&](const char* key, bool holds, const char* reason) {
    rules.require(
        {key, "numerics"}, [&] { return holds; }, "numerics = layout_invariant cannot be had with {}: {}",
        key, reason);
  };
  const Layout& layout = config.parallel.layout;
  needs("parallel.tp", layout.tp == 1, "sums inside a layer would be cut into tp parts; use 1");
  needs("parallel.cp", layout.cp == 1, "sums over a sequence would be cut into cp parts; use 1");
  const MoeConfig& moe = config.model.moe;
  needs("model.moe.global_balance_loss", moe.global_balance_loss == 0,
        "it sees the part of the batch that is done so far; use sequence_balance_loss");
  needs("model.moe.reduce_at_expert", !moe.reduce_at_expert,
        "sums of a token's experts would be grouped by worker; use false");
  needs("model.moe.router.forced_balance", !moe.router.forced_balance,
        "it goes by the place of a row in its micro-batch; use false");
  needs("device", config.device != DeviceChoice::kCuda,
        "the GPU's products are not known to keep rows apart; use cpu");
}

void check_qk_clip(const RunConfig& config, Rules& rules) {
  rules.require(
      {"optimizer.qk_clip", "model.qk_norm"},
      [&] { return config.optim.qk_clip == 0 || config.model.qk_norm == QkNorm::kNone; },
      "optimizer.qk_clip scales the weights of queries and keys, and with model.qk_norm their size changes "
      "no "
      "logit; use 0");
}

// That stages end one behind the other, counted in tokens.
void check_stage_order(const RunConfig& config, Rules& rules) {
  constexpr double kMostTokens = 1e18;
  if (!rules.are_good({"schedule", "train", "model.seq_len"})) return;
  const double tokens_of_step = static_cast<double>(config.train.global_batch_size * config.model.seq_len);
  std::optional<std::int64_t> before;
  for (std::size_t i = 0; i < config.optim.stages.size(); ++i) {
    const LearningStage& stage = config.optim.stages[i];
    const std::string key = fmt::format("schedule.stages.{}", i);
    rules.require(
        {key}, [&] { return static_cast<double>(stage.until_steps) * tokens_of_step <= kMostTokens; },
        "{}: {} steps train more than {:.0e} tokens", key, stage.until_steps, kMostTokens);
    if (!rules.are_good({key})) return;
    const std::optional<std::int64_t> end = stage_end(config, stage);
    rules.require(
        {key, "train", "model.seq_len"}, [&] { return !before || !end || *end > *before; },
        "{} ends at {} trained tokens, where the stage before it has ended at {}", key, end.value_or(0),
        before.value_or(0));
    before = end;
  }
}

void check_training(const RunConfig& config, Rules& rules) {
  rules.require(
      {"data.train"}, [&] { return !config.data.train.empty(); },
      "data.train is empty: give at least one source, data.train: [{{path: ...}}]");
  rules.require(
      {"train.steps", "train.tokens"}, [&] { return config.train.steps > 0 || config.train.tokens > 0; },
      "train.steps and train.tokens are both 0: give one of them, or the run has no end");
}

}  // namespace

void check_run(RunConfig& config, const RunSetting& setting, Findings& findings) {
  if (!findings.complete()) return;
  if (setting.world) resolve_defaults(config.parallel, *setting.world);
  Rules rules(findings);
  check_name(config.name, rules);
  check(config.model, rules);
  check(config.train, rules);
  check_pass(config, rules);
  check(config.cost, rules);
  check(config.checkpoint, rules);
  check(config.data, rules);
  check_numerics(config, rules);
  check(config.optim, rules);
  check_qk_clip(config, rules);
  check_stage_order(config, rules);
  check(config.parallel, config.model, setting.world, rules);
  check_split("train.global_batch_size", config.train.global_batch_size, config, rules);
  check_split("train.batch_ramp_start", config.train.batch_ramp_start, config, rules);
  check_micro_batches(config, rules);
  if (setting.use == RunSetting::Use::kTraining) check_training(config, rules);
}

}  // namespace jevons
