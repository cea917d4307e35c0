// How a run's steps divide its samples: the batch-size ramp and the number of steps. Pure functions of the
// configuration and of the position in the data, so that a resumed run goes on with the same batches on any
// layout.
#pragma once

#include <cstdint>

#include "trainer/config/run_config.h"

namespace jevons {

// Sequences of the step that begins at sample `consumed`. The ramp rises linearly over batch_ramp_samples
// from batch_ramp_start to global_batch_size, in whole multiples of batch_ramp_start.
std::int64_t batch_size_at(const TrainConfig& config, std::uint64_t consumed);

// Samples that are done after `steps` more steps from `consumed`.
std::uint64_t samples_after(const TrainConfig& config, std::uint64_t consumed, std::int64_t steps);

// Steps until train.steps or train.tokens is reached, whichever is first. Throws Error(kUsage) if neither is
// set.
std::int64_t total_steps(const TrainConfig& config, std::int64_t seq_len);

}  // namespace jevons
