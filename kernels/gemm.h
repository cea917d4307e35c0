// Matrix products of a linear layer, dense and grouped by expert. Weights are stored (out, in).
// Legend: T rows, I in, O out, R rows of all groups, e groups. A row of y depends on its own row of x only,
// bit for bit (the sum over K runs in a fixed order), when row_invariant_gemm() is true.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/context.h"
#include "kernels/core/tensor.h"

namespace jevons {

// x, w, y, dy, dx have one dtype (f32, bf16 or f64); dw has accumulator_of(dtype) and is added to (+=), the
// rest assigned.
void linear_forward(const Context&, Tensor x_TI, Tensor w_OI, Tensor y_TO);
void linear_backward_input(const Context&, Tensor dy_TO, Tensor w_OI, Tensor dx_TI);
void linear_backward_weight(const Context&, Tensor dy_TO, Tensor x_TI, Tensor dw_OI);

// Group g owns rows [offsets[g], offsets[g+1]) of x and y and the matrix w[g]. offsets has e+1 entries on the
// host, starts at 0, does not decrease and ends at R. A group may be empty: then its dw is left as it is.
void grouped_linear_forward(const Context&, std::span<const std::int64_t> offsets, Tensor x_RI, Tensor w_eOI,
                            Tensor y_RO);
void grouped_linear_backward_input(const Context&, std::span<const std::int64_t> offsets, Tensor dy_RO,
                                   Tensor w_eOI, Tensor dx_RI);
void grouped_linear_backward_weight(const Context&, std::span<const std::int64_t> offsets, Tensor dy_RO,
                                    Tensor x_RI, Tensor dw_eOI);

// True when the CPU has AVX-512 (and AVX512_BF16 for bf16), so that the own kernel runs; else a library does.
bool row_invariant_gemm(DType dtype);
// "avx512 (own)", "openblas", "openblas (bf16 widened)", "plain" (f64): what doctor and the passport report.
const char* gemm_backend(DType dtype);

}  // namespace jevons
