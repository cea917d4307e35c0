// The figures that passes leave (num_figures): their sums over all ranks, and means of those.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/core/exact_sum.h"
#include "trainer/step/model_worker.h"

namespace jevons {

using FigureSums = std::vector<ExactSum>;  // of each figure

// Ends the passes so far (ModelWorker::finish_passes) and takes this rank's part of their figures.
FigureSums take_figures(ModelWorker& worker);

// Over all ranks; the same bits however the terms are spread over them. The meta world has nothing to add.
// Collective.
std::vector<double> sums_over_ranks(Communicator& world, FigureSums sums);

// Nothing of nothing.
std::optional<double> mean_over(std::int64_t count, double sum);
// Of each depth of multi-token prediction, from the targets (global_targets) and figures of the global batch.
std::vector<std::optional<double>> mtp_means(const std::vector<std::int64_t>& targets,
                                             const std::vector<double>& figures);

}  // namespace jevons
