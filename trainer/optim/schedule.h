// Learning rate as a pure function of the step.
#pragma once

#include <cstdint>

#include "trainer/optim/optim_config.h"

namespace jevons {

// The rate used by step `step` (0-based) of a run of `total_steps`.
// Warm-up: lr * (step + 1) / warmup_steps, so that no step has rate 0. After it, until the last step:
//   kConstant          lr
//   kCosine            half a cosine from lr to min_lr_ratio * lr (Loshchilov and Hutter, arXiv:1608.03983,
//   no restarts) kWarmupStableDecay lr, then a line down to min_lr_ratio * lr over the last decay_steps (Hu
//   et al., arXiv:2404.06395)
double learning_rate(const OptimConfig& config, std::int64_t step, std::int64_t total_steps);

}  // namespace jevons
