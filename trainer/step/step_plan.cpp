#include "trainer/step/step_plan.h"

#include <algorithm>
#include <limits>

#include "kernels/core/error.h"

namespace jevons {

std::int64_t batch_size_at(const TrainConfig& c, std::uint64_t consumed) {
  const auto position = static_cast<double>(consumed);
  const auto length = static_cast<double>(c.batch_ramp_samples);
  if (c.batch_ramp_start <= 0 || position >= length) return c.global_batch_size;
  const double rise = static_cast<double>(c.global_batch_size - c.batch_ramp_start) * position / length;
  const auto increments = static_cast<std::int64_t>(rise / static_cast<double>(c.batch_ramp_start));
  return std::min(c.global_batch_size, c.batch_ramp_start * (1 + increments));
}

std::uint64_t samples_after(const TrainConfig& c, std::uint64_t consumed, std::int64_t steps) {
  for (; steps > 0 && batch_size_at(c, consumed) < c.global_batch_size; --steps) {
    consumed += static_cast<std::uint64_t>(batch_size_at(c, consumed));
  }
  return consumed + static_cast<std::uint64_t>(std::max<std::int64_t>(0, steps)) *
                        static_cast<std::uint64_t>(c.global_batch_size);
}

std::int64_t steps_to_come(const TrainConfig& c, std::int64_t seq_len, const TrainedSoFar& done) {
  ENSURE(c.steps > 0 || c.tokens > 0, "a run without end");
  const std::int64_t most = c.steps > 0 ? std::max<std::int64_t>(0, c.steps - done.steps)
                                        : std::numeric_limits<std::int64_t>::max();
  if (c.tokens <= 0) return most;
  const std::int64_t samples = (c.tokens - 1) / seq_len + 1;
  auto consumed = static_cast<std::int64_t>(done.samples);
  std::int64_t steps = 0;
  while (consumed < samples && consumed < c.batch_ramp_samples && steps < most) {
    consumed += batch_size_at(c, static_cast<std::uint64_t>(consumed));
    ++steps;
  }
  if (consumed < samples) steps += (samples - consumed - 1) / c.global_batch_size + 1;
  return std::min(steps, most);
}

ScheduleSpan schedule_span(const TrainConfig& c, std::int64_t seq_len, const TrainedSoFar& done) {
  return {.end = done.steps + steps_to_come(c, seq_len, done), .length = steps_to_come(c, seq_len, {})};
}

}  // namespace jevons
