// What of a worker a checkpoint holds, as boxes of global tensors, and the way back. Master weights are
// stored under the weight's name, moments as optim.m.<name> and optim.v.<name>, all fp32; working weights are
// made from the master again.
#pragma once

#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/worker.h"

namespace jevons {

// This rank's boxes for saving: over all ranks every element appears exactly once.
std::vector<TensorBox> boxes_to_save(Worker& worker);

// Fills weights, optimizer state and model state from a checkpoint of any layout. Collective. Throws
// Error(kData) if a tensor is missing or has another shape.
void restore(Worker& worker, const CheckpointReader& reader);

// Weights and model state only, from a checkpoint of any layout.
void restore_weights(Worker& worker, const CheckpointReader& reader);

}  // namespace jevons
