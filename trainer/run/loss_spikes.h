// Losses far above those of the steps before: how far, in standard deviations of a window, is too far.
#pragma once

#include <vector>

#include "trainer/config/run_config.h"

namespace jevons {

// The largest loss that is no spike: mean + spike_zscore * standard deviation of the window; infinity as long
// as the window is not full, or without spike_zscore.
double spike_limit(const TrainConfig& config, const std::vector<double>& window);

// Adds the loss of a step that was not skipped and drops what is older than the window.
void remember_loss(const TrainConfig& config, double loss, std::vector<double>& window);

}  // namespace jevons
