#include "trainer/config/optim_section.h"

namespace jevons {
namespace {

constexpr Choice<OptimizerKind> kOptimizers[] = {{OptimizerKind::kAdamW, "adamw"},
                                                 {OptimizerKind::kSgd, "sgd"}};
constexpr Choice<ScheduleKind> kSchedules[] = {{ScheduleKind::kConstant, "constant"},
                                               {ScheduleKind::kCosine, "cosine"},
                                               {ScheduleKind::kWarmupStableDecay, "warmup_stable_decay"}};

}  // namespace

void carry(Bridge optimizer, Bridge schedule, OptimConfig& optim) {
  optimizer("kind", optim.kind, kOptimizers);
  optimizer("lr", optim.lr);
  optimizer("beta1", optim.beta1);
  optimizer("beta2", optim.beta2);
  optimizer("eps", optim.eps);
  optimizer("weight_decay", optim.weight_decay);
  optimizer("clip_norm", optim.clip_norm);
  schedule("kind", optim.schedule, kSchedules);
  schedule("warmup_steps", optim.warmup_steps);
  schedule("decay_steps", optim.decay_steps);
  schedule("min_lr_ratio", optim.min_lr_ratio);
}

void check(const OptimConfig& optim, Rules& rules) {
  rules.require(
      {"schedule.kind", "schedule.decay_steps"},
      [&] { return optim.schedule != ScheduleKind::kWarmupStableDecay || optim.decay_steps > 0; },
      "schedule.kind = warmup_stable_decay needs schedule.decay_steps");
}

}  // namespace jevons
