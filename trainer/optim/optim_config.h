// Optimizer and learning-rate schedule, as plain data.
#pragma once

#include <cstdint>
#include <vector>

namespace jevons {

enum class OptimizerKind : std::uint8_t { kAdamW, kSgd, kMuon };
// How moments are kept: in fp32, or in bf16, rounded to nearest or at random (kernels/optimizer.h).
enum class MomentKind : std::uint8_t { kF32, kBF16, kBF16Stochastic };
// Iterations that orthogonalise (newton_schulz.h).
enum class NewtonSchulz : std::uint8_t { kFive, kEightAndTwo };
enum class ScheduleKind : std::uint8_t { kConstant, kCosine, kWarmupStableDecay, kStages };
enum class StageShape : std::uint8_t { kConstant, kLinear, kCosine };

// A stage of kStages: from where the one before ended, the first from 0, to `ratio` of the peak.
struct LearningStage {
  StageShape shape = StageShape::kConstant;  // kConstant: `ratio` all the way
  double ratio = 1;
  // Where it ends, counted from the start of the run. One of them; of the last, 0 and 0 is the run's end.
  std::int64_t until_steps = 0, until_tokens = 0;
  bool operator==(const LearningStage&) const = default;
};

// From so many trained tokens on. Negative: as before.
struct ScheduledChange {
  std::int64_t from_tokens = 0;
  double mtp_loss_weight = -1, bias_update_rate = -1;
  bool operator==(const ScheduledChange&) const = default;
};

// Of kMuon, for the matrices; other weights are AdamW's.
struct MuonConfig {
  double momentum = 0.95;
  bool nesterov = true;
  NewtonSchulz iterations = NewtonSchulz::kFive;
  double update_rms = 0.2;  // root mean square of an update over the learning rate
  bool operator==(const MuonConfig&) const = default;
};

struct OptimConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 3e-4;  // peak
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  MomentKind moments = MomentKind::kF32;
  double clip_norm = 1.0;  // 0 = no clipping
  MuonConfig muon;
  double qk_clip = 0;  // largest attention logit; 0 = no limit
  ScheduleKind schedule = ScheduleKind::kCosine;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;          // kWarmupStableDecay: length of the final decay
  double min_lr_ratio = 0.1;             // final lr over peak lr
  std::vector<LearningStage> stages;     // of kStages
  std::vector<ScheduledChange> changes;  // of other coefficients, by rising from_tokens
  bool operator==(const OptimConfig&) const = default;
};

}  // namespace jevons
