#include "trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jevons {
namespace {

// How far `step` is into a phase of `length` steps that begins at `begin`; its last step is at 1.
double progress(std::int64_t step, std::int64_t begin, std::int64_t length) {
  if (length <= 1) return 1;
  return std::clamp(static_cast<double>(step - begin) / static_cast<double>(length - 1), 0.0, 1.0);
}

}  // namespace

double learning_rate(const OptimConfig& c, std::int64_t step, const ScheduleSpan& span) {
  if (step < c.warmup_steps) {
    return c.lr * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  }
  const double floor = c.lr * c.min_lr_ratio;
  const std::int64_t place = step - span.end + span.length;  // that of as many tokens in today's batches
  switch (c.schedule) {
    case ScheduleKind::kConstant:
      return c.lr;
    case ScheduleKind::kCosine: {
      const double t = progress(place, c.warmup_steps, span.length - c.warmup_steps);
      return floor + (c.lr - floor) * 0.5 * (1 + std::cos(std::numbers::pi * t));
    }
    case ScheduleKind::kWarmupStableDecay: {
      const std::int64_t begin = std::max(c.warmup_steps, span.length - c.decay_steps);
      if (place < begin) return c.lr;
      return c.lr + (floor - c.lr) * progress(place, begin, span.length - begin);
    }
  }
  return c.lr;
}

}  // namespace jevons
