// Elementwise ops over whole tensors, any shape. The reductions take scratch from the work arena.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

void fill_zero(const Context&, Tensor y);
void copy(const Context&, Tensor x, Tensor y);                      // same dtype
void cast(const Context&, Tensor x, Tensor y);                      // f32, bf16, f64 to one another
void add(const Context&, Tensor a, Tensor b, Tensor y);             // y = a + b, one dtype; y may be a or b
void add_scaled(const Context&, double scale, Tensor x, Tensor y);  // y += scale * x; dtypes may differ
void scale_inplace(const Context&, double scale, Tensor y);
// Sum of squares in double, in a fixed order that does not depend on the number of threads.
double sum_of_squares(const Context&, Tensor x);
// y (c) f64 += scale * sum over the rows of x (n, c), f32 or f64, in a fixed order: for figures that stay on
// the device until the end of a step.
void add_column_sums(const Context&, double scale, Tensor x, Tensor y);
// How many elements are NaN or infinite.
std::int64_t count_nonfinite(const Context&, Tensor x);

}  // namespace jevons
