// RMSNorm over the hidden dim (Zhang and Sennrich, arXiv:1910.07467), with the residual stream's additions
// fused in.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/param_store.h"
#include "trainer/model/layer.h"

namespace jevons {

class Norm {
 public:
  struct Saved {
    Tensor x;     // (S, D), the input itself
    Tensor rstd;  // (S)
  };
  // Declares `name` (dim), replicated.
  Norm(ParamStore& store, const std::string& name, std::int64_t dim, double eps);

  // y (S, D) goes to `out`: whether it outlives the block is the block's choice. rstd goes to ctx.stash.
  Tensor forward(const Context& ctx, Tensor x, Arena& out, Saved& saved) const;
  // h = x + r, then the norm of h. h is given and becomes the saved input.
  Tensor forward_add(const Context& ctx, Tensor x, Tensor r, Tensor h, Arena& out, Saved& saved) const;
  // y once more, from what forward saved.
  Tensor again(const Context& ctx, Arena& out, Saved& saved) const;

  void backward(const Context& ctx, Tensor dy, Tensor dx, Saved& saved) const;  // dx (S, D) is assigned
  // d_residual (S, D), the gradient that reached the norm's input on the residual stream, becomes the whole
  // gradient of that input, in place.
  void backward_add(const Context& ctx, Tensor dy, Tensor d_residual, Saved& saved) const;

 private:
  ParamStore* store_;
  ParamId id_;
  float eps_;
};

}  // namespace jevons
