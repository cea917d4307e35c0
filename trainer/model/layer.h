// What a layer is: a plain class with a nested Saved; no base class, no tape. Activation gradients are
// assigned (=), weight gradients accumulate (+=). Results of forward and what backward needs lie in ctx.stash
// unless the layer says otherwise; results of backward lie in ctx.work. A composite's Saved holds its
// members' by value. The two halves of backward are apart, because a pipeline schedule may delay the
// weights'.
#pragma once

#include <concepts>

#include "kernels/core/context.h"
#include "kernels/core/tensor.h"

namespace jevons {

// backward_input may write over saved tensors, so it runs once per forward. backward_weight comes after it,
// at once or later: till then dy stays as it is and ctx.stash keeps what backward_input put there. A layer
// whose weight gradient is no product of its own (a norm) adds it in backward_input already.
template <class L>
concept Layer = requires(const L& layer, const Context& ctx, Tensor x, Tensor dy, typename L::Saved& saved) {
  { layer.forward(ctx, x, saved) } -> std::same_as<Tensor>;
  { layer.backward_input(ctx, dy, saved) } -> std::same_as<Tensor>;  // dx
  { layer.backward_weight(ctx, saved) } -> std::same_as<void>;
};

// The context for what need not outlive the block: everything goes to ctx.work. Forward results that nobody
// keeps are made under it, and backward whose halves follow each other at once.
inline Context scratch(const Context& ctx) {
  Context inner = ctx;
  inner.stash = ctx.work;
  return inner;
}

// Both halves, one after the other; nothing stays in ctx.stash.
template <Layer L>
Tensor backward(const L& layer, const Context& ctx, Tensor dy, typename L::Saved& saved) {
  const Context inner = scratch(ctx);
  const Tensor dx = layer.backward_input(inner, dy, saved);
  layer.backward_weight(inner, saved);
  return dx;
}

}  // namespace jevons
