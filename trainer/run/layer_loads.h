// What a step's figures of the routing are in the metrics.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/report/step_metrics.h"
#include "trainer/step/train_step.h"

namespace jevons {

enum class ExpertDetail : std::uint8_t { kNone, kEvery };

// Of every MoE layer, in order; with the load of single experts if asked for.
std::vector<LayerLoad> layer_loads(const StepOutcome& outcome, ExpertDetail detail);

}  // namespace jevons
