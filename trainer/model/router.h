// The router of an MoE layer: logits, choice and weights of experts, in the accumulator dtype whatever the
// compute dtype is. Legend: T rows of this rank, D hidden size, E experts, K chosen.
#pragma once

#include <string>

#include "parallel/param_store.h"
#include "trainer/model/layer.h"
#include "trainer/model/model_config.h"

namespace jevons {

class Router {
 public:
  struct Saved {
    Tensor logits;     // (T, E)
    RouterOutput out;  // scores, indices, weights
  };
  // Declares `name` (E, D), replicated. `dense_counterpart` as in ParamSpec.
  Router(ParamStore& store, const ModelConfig& config, const std::string& name,
         const std::string& dense_counterpart = {});

  // x (T, D). bias (E) or undefined enters the choice only.
  void forward(const Context& ctx, Tensor x, Tensor bias, Saved& saved) const;

  struct Gradients {
    Tensor weights;      // (T, K)
    Tensor scores;       // (T, E) or undefined; written over
    double z_scale = 0;  // of logsumexp(logits)^2 per row
  };
  // Returns the gradient (T, D) of x in the accumulator dtype, in ctx.work.
  Tensor backward(const Context& ctx, Tensor x, const Gradients& gradients, const Saved& saved) const;

 private:
  Tensor in_accumulator(const Context& ctx, Tensor x) const;

  ParamStore* store_;
  ParamId id_;
  RouterRule rule_;
};

}  // namespace jevons
