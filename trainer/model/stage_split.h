// How the layers of a model are dealt to pipeline stages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/model/stage.h"

namespace jevons {

// Layers of each of `stages` consecutive stages, at least one, so that the most expensive stage costs as
// little as can be, by model FLOPs (stage_flops_per_token); the last one has the head, and multi-token
// prediction, beside its layers. Of equally good ways the one of the least sum of squares, and of those the
// one with the fewest layers in front, where a pipeline holds most micro-batches at once.
std::vector<std::int64_t> balanced_layers(const ModelConfig& config, std::int64_t stages);

// The same for any costs: of each layer, and of what comes behind the last.
std::vector<std::int64_t> split_by_cost(std::span<const std::int64_t> costs, std::int64_t behind,
                                        std::int64_t stages);

// Stages of so many layers each, in the order of the model: the first with the embedding, the last with the
// head.
std::vector<StageRange> stage_ranges(std::span<const std::int64_t> layers);

}  // namespace jevons
