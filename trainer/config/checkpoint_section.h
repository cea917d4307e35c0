// checkpoint:
#pragma once

#include <cstdint>

namespace jevons {

class Bridge;
class Rules;

enum class SaveErrorPolicy : std::uint8_t { kStop, kContinue };

struct CheckpointConfig {
  static constexpr std::int64_t kAuto = -1;
  std::int64_t interval = 0;    // steps; 0 = only at the end; kAuto = as SaveSchedule finds best
  std::int64_t keep_last = 0;   // newest so many stay; 0 = all
  std::int64_t keep_every = 0;  // steps that are multiples of this stay; 0 = none
  std::int64_t keep_best = 0;   // so many with the lowest validation loss stay
  SaveErrorPolicy on_error = SaveErrorPolicy::kStop;
  double auto_min_minutes = 1, auto_max_minutes = 60;  // between two saves, of kAuto
  bool asynchronous = true;  // at an interval: a copy in host memory is written beside training
  bool final_save = true;
  bool operator==(const CheckpointConfig&) const = default;
};

void carry(Bridge section, CheckpointConfig& checkpoint);
void check(const CheckpointConfig& checkpoint, Rules& rules);

}  // namespace jevons
