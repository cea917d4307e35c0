// y = x w^T with w (O, I), without bias. Several weights with the same input are declared as neighbours and
// used as one matrix.
#pragma once

#include <vector>

#include "parallel/param_store.h"
#include "trainer/model/layer.h"

namespace jevons {

class Linear {
 public:
  struct Saved {
    Tensor x;   // (T, I), the input itself, not a copy
    Tensor dy;  // (T, O), from backward_input to backward_weight
  };
  // Declares `parts`, whose rows follow one another in y. All have the same number of columns.
  Linear(ParamStore& store, std::vector<ParamSpec> parts);

  // (T, I) -> (T, O) of this rank's part.
  Tensor forward(const Context& ctx, Tensor x, Saved& saved) const;
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved) const;  // (T, O) -> (T, I)
  void backward_weight(const Context& ctx, const Saved& saved) const;        // gradient += dy^T x
  Tensor weight() const { return store_->fused_weight(ids_); }               // (O, I)
  std::span<const ParamId> parts() const { return ids_; }

 private:
  ParamStore* store_;
  std::vector<ParamId> ids_;
};
static_assert(Layer<Linear>);

}  // namespace jevons
