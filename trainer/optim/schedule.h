// Learning rate as a pure function of the step.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/optim/optim_config.h"

namespace jevons {

// Where a run ends, and how many steps all of it has as it is configured now. The two differ when a part of
// it was trained with another batch: `length` steps would have trained as many tokens as `end` steps do.
struct ScheduleSpan {
  std::int64_t end = 0, length = 0;
  std::vector<std::int64_t> stage_ends = {};  // of kStages: tokens that are trained where each ends
};

// The rate used by step `step` (0-based).
// Warm-up: lr * (step + 1) / warmup_steps, so that no step has rate 0. After it, until the last step:
//   kConstant           lr
//   kCosine             half a cosine from lr to min_lr_ratio * lr, no restarts (Loshchilov and Hutter,
//                       arXiv:1608.03983)
//   kWarmupStableDecay  lr, then a line down to min_lr_ratio * lr over the last decay_steps (Hu et al.,
//                       arXiv:2404.06395)
// Both count the steps that are still to come, so that the rate goes on where the tokens trained so far have
// left it.
//   kStages             the stages of the configuration, one after another, without the warm-up above. How
//   far
//                       a stage is goes by the `tokens` that are trained when the step is done, so that a
//                       stage's last step has its last rate and none has rate 0.
double learning_rate(const OptimConfig& config, std::int64_t step, const ScheduleSpan& span,
                     std::int64_t tokens = 0);

}  // namespace jevons
