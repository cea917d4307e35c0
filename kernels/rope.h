// Rotary position embedding (Su et al., arXiv:2104.09864).
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/heads.h"
#include "kernels/positions.h"

namespace jevons {

// positions (T) i32 of tokens of which `length` neighbouring ones belong to a sequence: at[t % length].
void token_positions(const Context&, std::int64_t length, const Positions& at, Tensor positions);
// Which columns of a head of d are pair i.
enum class RopeLayout : std::uint8_t {
  kHalf,         // i and i + d/2
  kInterleaved,  // 2i and 2i + 1
};

struct Rotation {
  Tensor positions;  // (T) i32: rows of the tables
  Tensor cos, sin;   // (n, d / 2) accumulator dtype: of the angles at positions 0 .. n-1
  RopeLayout layout = RopeLayout::kHalf;
};
// Rotates the heads of `x` in place. backward rotates by the opposite angle, the adjoint.
void rope_forward(const Context&, HeadView x, const Rotation&);
void rope_backward(const Context&, HeadView dx, const Rotation&);

}  // namespace jevons
