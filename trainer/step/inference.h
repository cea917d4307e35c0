// One worker of a model that is run and not trained: weights in the compute dtype, no gradients, no
// optimizer.
#pragma once

#include "trainer/io/tensor_source.h"
#include "trainer/model/model.h"
#include "trainer/step/worker.h"

namespace jevons {

class InferenceWorker {
 public:
  // Of `config` the model, the layout, the precision and the threads count. Collective over `world`. The
  // weights are undefined until load().
  InferenceWorker(const RunConfig& config, Communicator& world, const ComputePlace& place);
  InferenceWorker(const InferenceWorker&) = delete;
  InferenceWorker& operator=(const InferenceWorker&) = delete;

  // Fills weights and model state from the fp32 tensors of `source`, a tensor at a time. Collective; throws
  // Error(kData) on all ranks if one is missing or has another shape.
  void load(const TensorSource& source);

  const RunConfig& config() const { return config_; }
  const Context& ctx() const { return ctx_; }
  Mesh& mesh() { return mesh_; }
  Model& model() { return model_; }
  // Empties both arenas between passes.
  void reset_arenas();
  // Waits for the device and looks at what the passes so far left there.
  void finish_passes();
  std::size_t weight_bytes() const { return store_.bytes(); }

 private:
  void read(const TensorSource& source, TensorBox box) const;

  RunConfig config_;
  Arena stash_, work_;
  Context ctx_;
  Mesh mesh_;
  ParamStore store_;
  Model model_;
};

}  // namespace jevons
