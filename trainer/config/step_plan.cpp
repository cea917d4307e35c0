#include "trainer/config/step_plan.h"

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

ScheduleSpan schedule_span(const RunConfig& c, const TrainedSoFar& done) {
  ScheduleSpan span = schedule_span(c.train, c.model.seq_len, done);
  span.stage_ends = stage_ends(c);
  return span;
}

namespace {

std::int64_t tokens_of(const RunConfig& c, std::int64_t steps) {
  return static_cast<std::int64_t>(samples_after(c.train, 0, steps)) * c.model.seq_len;
}

}  // namespace

std::optional<std::int64_t> stage_end(const RunConfig& c, const LearningStage& stage) {
  if (stage.until_tokens > 0) return stage.until_tokens;
  return stage.until_steps > 0 ? std::optional(tokens_of(c, stage.until_steps)) : std::nullopt;
}

std::vector<std::int64_t> stage_ends(const RunConfig& c) {
  std::vector<std::int64_t> ends;
  for (const LearningStage& stage : c.optim.stages) {
    if (const std::optional<std::int64_t> end = stage_end(c, stage)) {
      ends.push_back(*end);
      continue;
    }
    // Of a run that is shorter than its stages, the last one never begins.
    const std::int64_t end = tokens_of(c, steps_to_come(c.train, c.model.seq_len, {}));
    ends.push_back(ends.empty() ? end : std::max(end, ends.back() + 1));
  }
  return ends;
}

Coefficients coefficients_at(const RunConfig& c, std::int64_t tokens) {
  Coefficients now{.mtp_loss_weight = c.model.mtp.loss_weight,
                   .bias_update_rate = c.model.moe.bias_update_rate};
  for (const ScheduledChange& change : c.optim.changes) {
    if (tokens < change.from_tokens) break;
    if (change.mtp_loss_weight >= 0) now.mtp_loss_weight = change.mtp_loss_weight;
    if (change.bias_update_rate >= 0) now.bias_update_rate = change.bias_update_rate;
  }
  return now;
}

ScheduleSpan schedule_span(const TrainConfig& c, std::int64_t seq_len, const TrainedSoFar& done) {
  return {.end = done.steps + steps_to_come(c, seq_len, done), .length = steps_to_come(c, seq_len, {})};
}

}  // namespace jevons
