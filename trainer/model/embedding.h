// Token embedding, split over tp by rows of the vocabulary: every rank looks up the tokens of its slice, zero
// for others, and a reduce-scatter sums the slices and leaves each rank its rows.
#pragma once

#include "parallel/param_store.h"
#include "parallel/region.h"
#include "trainer/model/layer.h"
#include "trainer/model/model_config.h"

namespace jevons {

class Embedding {
 public:
  struct Saved {
    Tensor tokens;  // (T) i32
    Tensor dy;      // (T, D), from backward_input to backward_weight
  };
  // Declares `embedding` (V, D), or a copy of it.
  Embedding(ParamStore& store, const ModelConfig& config, Tie tie = Tie::kNone);

  // (T) -> (T / tp, D).
  Tensor forward(const Context& ctx, Tensor tokens, Saved& saved) const;
  // dy (T / tp, D); a token has no gradient, so an undefined tensor is returned.
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;

  ParamId weight() const { return id_; }  // for a head tied to it, on a copy

 private:
  ParamStore* store_;
  ReduceScatter reduce_scatter_;
  ParamId id_;
};
static_assert(Layer<Embedding>);

}  // namespace jevons
