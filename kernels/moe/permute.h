// Row movement between token order and expert order. No atomics: every output row names its sources.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// y[r] = x[index[r]], any dtype; index (R) i32, every entry a row of x, or -1: 0.
void gather_rows(const Context&, Tensor x, Tensor index, Tensor y);
// y[t] = sum over k, in slot order, of x[index[t, k]]; index (T, K) i32, -1 = nothing. Sums in accumulator
// dtype, rounds once. No slot at all gives 0.
void sum_rows(const Context&, Tensor x, Tensor index, Tensor y);

}  // namespace jevons
