// What a layer is. A plain struct with a nested Saved; no base class, no tape. Activation gradients are
// assigned (=), weight gradients accumulate (+=). What backward needs lives in ctx.stash, and so does the
// result of forward unless the layer says otherwise; results of backward live in ctx.work. A composite's
// Saved holds its members' Saved by value. backward consumes Saved: it may write over saved tensors, so it
// runs once per forward.
#pragma once

#include <concepts>

#include "kernels/core/context.h"
#include "kernels/core/tensor.h"

namespace jevons {

template <class L>
concept Layer = requires(const L& layer, const Context& ctx, Tensor x, typename L::Saved& saved) {
  { layer.forward(ctx, x, saved) } -> std::same_as<Tensor>;
  { layer.backward(ctx, x, saved) } -> std::same_as<Tensor>;
};

// The context for what need not outlive the block: everything goes to ctx.work. Forward results that nobody
// keeps are made under it, and recomputation is an inner forward under it.
inline Context scratch(const Context& ctx) {
  Context inner = ctx;
  inner.stash = ctx.work;
  return inner;
}

}  // namespace jevons
