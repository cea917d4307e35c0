// Silent corruption: what is replicated over ranks must have the same bits on all of them.
#pragma once

#include "trainer/step/worker.h"

namespace jevons {

// Compares hashes of every weight, of optimizer state that is not sharded and of the model's state over the
// ranks that hold the same. Between steps; on a GPU everything is copied to the host once. Throws
// AgreedError(kFailure) that names the tensor and the ranks that differ. Collective.
void check_replicas(Worker& worker);

}  // namespace jevons
