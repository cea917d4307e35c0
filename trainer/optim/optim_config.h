// Optimizer and learning-rate schedule, as plain data.
#pragma once

#include <cstdint>

namespace jevons {

enum class OptimizerKind : std::uint8_t { kAdamW, kSgd };
enum class ScheduleKind : std::uint8_t { kConstant, kCosine, kWarmupStableDecay };

struct OptimConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 3e-4;  // peak
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  // 0 = no clipping
  ScheduleKind schedule = ScheduleKind::kCosine;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;  // kWarmupStableDecay: length of the final decay
  double min_lr_ratio = 0.1;     // final lr over peak lr
  bool operator==(const OptimConfig&) const = default;
};

}  // namespace jevons
