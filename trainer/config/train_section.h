// train:
#pragma once

#include <cstdint>

namespace jevons {

class Bridge;
class Rules;

enum class Precision : std::uint8_t { kF32, kBF16 };
enum class BadStepPolicy : std::uint8_t { kSkip, kStop };

struct TrainConfig {
  std::int64_t steps = 0;               // stop after this many steps ...
  std::int64_t tokens = 0;              // ... or this many trained tokens, whichever is first; 0 = no limit
  std::int64_t global_batch_size = 0;   // sequences per step
  std::int64_t micro_batch_size = 1;    // sequences per dp rank and forward pass
  std::int64_t batch_ramp_start = 0;    // sequences at step 0; 0 = no ramp
  std::int64_t batch_ramp_samples = 0;  // sequences over which the batch grows linearly to global_batch_size
  std::uint64_t seed = 1;
  Precision precision = Precision::kF32;
  std::int64_t eval_interval = 0;  // steps; 0 = only at the end
  std::int64_t eval_samples = 0;   // sequences of the fixed validation set; 0 = all
  std::int64_t log_interval = 1;   // steps
  std::int64_t max_bad_steps = 3;  // consecutive skipped steps before the run stops with code 70
  BadStepPolicy on_bad_step = BadStepPolicy::kSkip;
  double spike_zscore = 0;                  // skip losses so far above the window's mean; 0 = none
  std::int64_t spike_window = 100;          // steps
  std::int64_t replica_check_interval = 0;  // steps; 0 = never
  bool operator==(const TrainConfig&) const = default;
};

void carry(Bridge section, TrainConfig& train);
void check(const TrainConfig& train, Rules& rules);

}  // namespace jevons
