// Rotary position embedding, rotate-half form (Su et al., arXiv:2104.09864): pairs are (i, i + d/2), angle
// position * theta^(-2i/d).
#pragma once

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

// cos and sin (positions, head_dim / 2), accumulator dtype, for positions 0 .. n-1.
void rope_table(const Context&, double theta, Tensor cos, Tensor sin);
// positions (T) i32: t % length, of tokens in sequences of `length`.
void token_positions(const Context&, std::int64_t length, Tensor positions);
// Rotates the heads of `x` in place; positions (T) i32 index the table. backward rotates by the opposite
// angle.
void rope_forward(const Context&, HeadView x, Tensor positions, Tensor cos, Tensor sin);
void rope_backward(const Context&, HeadView dx, Tensor positions, Tensor cos, Tensor sin);

}  // namespace jevons
