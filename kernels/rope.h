// Rotary position embedding, rotate-half form (Su et al., arXiv:2104.09864): pairs are (i, i + d/2).
#pragma once

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

// positions (T) i32: t % length, of tokens in sequences of `length`.
void token_positions(const Context&, std::int64_t length, Tensor positions);
// Rotates the heads of `x` in place. cos and sin (n, head_dim / 2), accumulator dtype, are those of the
// angles at positions 0 .. n-1; positions (T) i32 are rows of them. backward rotates by the opposite angle.
void rope_forward(const Context&, HeadView x, Tensor positions, Tensor cos, Tensor sin);
void rope_backward(const Context&, HeadView dx, Tensor positions, Tensor cos, Tensor sin);

}  // namespace jevons
