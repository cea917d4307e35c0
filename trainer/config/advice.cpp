#include "trainer/config/advice.h"

#include <fmt/format.h>

#include <numeric>

namespace jevons {
namespace {

void check_schedule(const OptimConfig& c, std::int64_t steps, std::vector<std::string>& doubts) {
  if (c.warmup_steps > steps) {
    doubts.push_back(fmt::format(
        "schedule.warmup_steps = {} is more than the {} steps of the run: the learning rate never "
        "reaches its peak, and does not come down",
        c.warmup_steps, steps));
  } else if (c.schedule == ScheduleKind::kWarmupStableDecay && c.decay_steps > steps - c.warmup_steps) {
    doubts.push_back(
        fmt::format("schedule.decay_steps = {} does not fit into the {} steps that schedule.warmup_steps = "
                    "{} leaves of {}: "
                    "the decay takes these, and is as much steeper",
                    c.decay_steps, steps - c.warmup_steps, c.warmup_steps, steps));
  }
}

// Whether a step before the last can be both validated and saved.
bool can_have_validated_checkpoints(const RunConfig& c, std::int64_t steps) {
  const std::int64_t save = c.checkpoint.interval, eval = c.train.eval_interval;
  if (save == 0 || eval == 0) return false;
  if (save == CheckpointConfig::kAuto) return eval < steps;
  // No product: intervals may be as large as the type.
  const std::int64_t times = eval / std::gcd(save, eval);
  return save < steps && times <= (steps - 1) / save;
}

}  // namespace

std::vector<std::string> doubtful_options(const RunConfig& config, const RunExtent& extent) {
  std::vector<std::string> doubts;
  check_schedule(config.optim, extent.total_steps, doubts);
  const CheckpointConfig& c = config.checkpoint;
  if (c.keep_best > 0 && extent.validation_samples == 0) {
    doubts.push_back(
        fmt::format("checkpoint.keep_best = {} keeps none: there is no validation data", c.keep_best));
  } else if (c.keep_best > 0 && !can_have_validated_checkpoints(config, extent.total_steps)) {
    doubts.push_back(fmt::format(
        "checkpoint.keep_best = {} keeps none but the last: no step before it is both saved "
        "(checkpoint.interval "
        "= {}) and validated (train.eval_interval = {})",
        c.keep_best, c.interval == CheckpointConfig::kAuto ? "auto" : fmt::format("{}", c.interval),
        config.train.eval_interval));
  }
  const RouterRule& router = config.model.moe.router;
  const bool weight_is_one =
      router.renormalize || (router.top_k_before_score && router.score == ScoreFunction::kSoftmax);
  if (router.num_experts > 1 && router.top_k == 1 && weight_is_one) {
    doubts.push_back(
        "model.moe.top_k = 1: the weight of the chosen expert is the same whatever the router says, so that "
        "the loss teaches it nothing; set model.moe.router.renormalize and top_k_before_score to false");
  }
  if (router.num_experts > 0 && router.forced_balance) {
    doubts.push_back(
        "model.moe.router.forced_balance = true: tokens take the experts in turn, whatever the router says; "
        "it is "
        "for benchmarks, not for training");
  }
  return doubts;
}

}  // namespace jevons
