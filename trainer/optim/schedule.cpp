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

double rate_in_stages(const OptimConfig& c, const std::vector<std::int64_t>& ends, std::int64_t tokens) {
  double before = 0;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < c.stages.size() && i < ends.size(); ++i) {
    const LearningStage& stage = c.stages[i];
    if (tokens <= ends[i] || i + 1 == c.stages.size()) {
      const double length = static_cast<double>(ends[i] - begin);
      const double t = length > 0 ? std::clamp(static_cast<double>(tokens - begin) / length, 0.0, 1.0) : 1;
      switch (stage.shape) {
        case StageShape::kConstant:
          return c.lr * stage.ratio;
        case StageShape::kLinear:
          return c.lr * (before + (stage.ratio - before) * t);
        case StageShape::kCosine:
          return c.lr * (stage.ratio + (before - stage.ratio) * 0.5 * (1 + std::cos(std::numbers::pi * t)));
      }
    }
    before = stage.ratio, begin = ends[i];
  }
  return c.lr * before;
}

}  // namespace

double learning_rate(const OptimConfig& c, std::int64_t step, const ScheduleSpan& span, std::int64_t tokens) {
  if (c.schedule == ScheduleKind::kStages) return rate_in_stages(c, span.stage_ends, tokens);
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
    case ScheduleKind::kStages:
      break;
  }
  return c.lr;
}

}  // namespace jevons
