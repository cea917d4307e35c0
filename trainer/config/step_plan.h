// How a run's steps divide its samples: the batch-size ramp, the last step, the place in the schedule. Pure
// functions of the configuration and of what is trained so far, whatever the batches were with which that was
// done; so that a resumed run goes on with the same batches on any layout.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "trainer/config/run_config.h"
#include "trainer/optim/schedule.h"

namespace jevons {

// Sequences of the step that begins at sample `consumed`. The ramp rises linearly over batch_ramp_samples
// from batch_ramp_start to global_batch_size, in whole multiples of batch_ramp_start.
std::int64_t batch_size_at(const TrainConfig& config, std::uint64_t consumed);

// Samples that are done after `steps` more steps from `consumed`.
std::uint64_t samples_after(const TrainConfig& config, std::uint64_t consumed, std::int64_t steps);

// What is trained so far.
struct TrainedSoFar {
  std::int64_t steps = 0;
  std::uint64_t samples = 0;
};

// Steps from there until train.steps or train.tokens is reached, whichever is first, one of which must
// be set; 0 if one is reached.
std::int64_t steps_to_come(const TrainConfig& config, std::int64_t seq_len, const TrainedSoFar& done);

// The steps of this configuration, from `done` on; of the second, with the ends of its stages.
ScheduleSpan schedule_span(const TrainConfig& config, std::int64_t seq_len, const TrainedSoFar& done);
ScheduleSpan schedule_span(const RunConfig& config, const TrainedSoFar& done);

// Tokens that are trained where a stage ends, by steps where this configuration's batches bring that many;
// nothing for a stage that does not say.
std::optional<std::int64_t> stage_end(const RunConfig& config, const LearningStage& stage);
// The same of each stage of schedule.stages; the last, if it does not say, ends with the run.
std::vector<std::int64_t> stage_ends(const RunConfig& config);

// Coefficients that schedule.changes may change.
struct Coefficients {
  double mtp_loss_weight = 0, bias_update_rate = 0;
};
// Of a step before which `tokens` are trained.
Coefficients coefficients_at(const RunConfig& config, std::int64_t tokens);

}  // namespace jevons
