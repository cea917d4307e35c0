// Sum of squares whose bits do not depend on how a long vector is cut into tensors.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/core/exact_sum.h"

namespace jevons {

// Blocks of at most this many squares are added in double; their sums are added without rounding.
inline constexpr std::int64_t kSquaresBlock = 16;

// sum += the squares of x, f32 or f64. A block is `block` consecutive elements of x, a power of two up to
// kSquaresBlock: cuts of the vector must fall on borders of blocks. CPU; counts only on kMeta.
void add_squares(const Context&, Tensor x, std::int64_t block, ExactSum& sum);

}  // namespace jevons
