// A worker of a model that is run and not trained: weights in the compute dtype, no gradients, no optimizer.
#pragma once

#include "trainer/io/tensor_source.h"
#include "trainer/step/model_worker.h"

namespace jevons {

class InferenceWorker final : public ModelWorker {
 public:
  // Weights and model state are the fp32 tensors of `weights`, of which each rank reads its parts, whatever
  // the layout. Collective over `world`; throws Error(kData) on all ranks if one is missing or has another
  // shape.
  InferenceWorker(const RunConfig& config, Communicator& world, const ComputePlace& place,
                  const TensorSource& weights);
};

}  // namespace jevons
