// Sums over rows of partial results, in a fixed order. For facades.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

enum class Sums { kAssign, kAdd };

// sums (batches, cols) := or += sum over rows of x (batches, rows, cols); rows >= 1 to assign. On the CPU row
// 0 first; on a GPU, which has more threads than columns, by runs of 32 rows, then of 32 such sums, and so
// on. Scratch memory: ctx.work.
void column_sums(const Context&, Tensor x, Tensor sums, Sums mode);

}  // namespace jevons
