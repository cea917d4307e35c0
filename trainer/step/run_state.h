// What of a worker a checkpoint holds, as boxes of global tensors, and the way back. Master weights are
// stored under the weight's name, in fp32, state of the optimizer's rule under its prefix (optim.m.<name>),
// in its own dtype; working weights are made from the master again.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/step/worker.h"

namespace jevons {

// This rank's boxes for saving: over all ranks every element appears exactly once.
std::vector<TensorBox> boxes_to_save(Worker& worker);

// Fills weights, optimizer state and model state from a checkpoint of any layout. Collective. Throws
// Error(kData) if a tensor is missing or has another shape.
void restore(Worker& worker, const TensorSource& source);

// Weights and model state only, from a checkpoint of any layout. Where this model has experts and the
// checkpoint a dense FFN, each expert becomes that FFN, and the router stays as it was initialised: sparse
// upcycling (Komatsuzaki et al., arXiv:2212.05055, section 2.1). Returns the number of such layers.
std::int64_t restore_weights(Worker& worker, const TensorSource& source);

}  // namespace jevons
