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

  Tensor forward(const Context& ctx, Tensor x, Saved& saved) const {
    return forward(ctx, x, *ctx.stash, saved);
  }
  // y (S, D) goes to `out`: whether it outlives the block is the block's choice. rstd goes to ctx.stash.
  Tensor forward(const Context& ctx, Tensor x, Arena& out, Saved& saved) const;
  // h = x + r, then the norm of h. h is given and becomes the saved input.
  Tensor forward_add(const Context& ctx, Tensor x, Tensor r, Tensor h, Arena& out, Saved& saved) const;
  // y once more, from what forward saved.
  Tensor again(const Context& ctx, Arena& out, Saved& saved) const;

  // Adds the weight's gradient too: it falls out of the same pass over the rows.
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved) const;
  void backward_weight(const Context&, const Saved&) const {}
  // The same with dx (S, D) given, which becomes the whole gradient of the norm's input: `d_residual` is what
  // reached it on the residual stream, dx itself or undefined for nothing.
  void backward_add(const Context& ctx, Tensor dy, Tensor d_residual, Tensor dx, const Saved& saved) const;

 private:
  ParamStore* store_;
  ParamId id_;
  float eps_;
};
static_assert(Layer<Norm>);

}  // namespace jevons
