// Elementwise ops over whole tensors, any shape. The reductions take scratch from the work arena.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

void fill_zero(const Context&, Tensor y);
void copy(const Context&, Tensor x, Tensor y);                      // same dtype
void cast(const Context&, Tensor x, Tensor y);                      // f32, bf16, f64 to one another
void add(const Context&, Tensor a, Tensor b, Tensor y);             // y = a + b, one dtype; y may be a or b
void add_scaled(const Context&, double scale, Tensor x, Tensor y);  // y += scale * x; dtypes may differ
// z = a x + b y, in the dtype of y, which is the accumulator dtype of x; z has one of theirs or bf16, and may
// be x or y if it has the same.
void add_weighted(const Context&, double a, Tensor x, double b, Tensor y, Tensor z);
// y = x / (sqrt(squares) + eps), squares (1) f64; x f32 or f64; y may be bf16 where x is f32.
void normalise(const Context&, Tensor x, Tensor squares, double eps, Tensor y);
void scale_inplace(const Context&, double scale, Tensor y);
// Figures that stay on the device until somebody reads them; sums in double, in a fixed order that does not
// depend on the number of threads.
// y (1) f64 += sum of the squares of x.
void add_sum_of_squares(const Context&, Tensor x, Tensor y);
// y (c) f64 += scale * sum over the rows of x (n, c), f32 or f64.
void add_column_sums(const Context&, double scale, Tensor x, Tensor y);
// y (c) = the larger of itself and the largest of each column of x (n, c), f32 or f64 both.
void take_column_max(const Context&, Tensor x, Tensor y);
// How many elements are NaN or infinite; the host waits for the answer.
std::int64_t count_nonfinite(const Context&, Tensor x);

}  // namespace jevons
