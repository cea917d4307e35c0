// Matrix products of a linear layer, dense and grouped by expert. Weights are stored (out, in).
// Legend: T rows, I in, O out, R rows of all groups, e groups. A row of y depends on its own row of x only,
// bit for bit (the sum over K runs in a fixed order), when gemm_backend() is row-invariant.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/context.h"
#include "kernels/core/tensor.h"

namespace jevons {

// A factor of a product: scale * values. A tensor by itself has no scale.
struct Factor {
  Tensor values;  // f32, bf16 or f64
  Tensor scale;   // (1) f32, or undefined: 1

  Factor(Tensor of) : values(of) {}  // NOLINT(google-explicit-constructor): every tensor is one
  Factor(Tensor of, Tensor times) : values(of), scale(times) {}
};

// The two factors of a product may differ in dtype: both are widened to the larger one (a scaled bf16 to f32)
// and their products are summed in its accumulator dtype. y and dx are assigned, rounded once to their own
// dtype, f32 or bf16 (f64 if a factor is); dw has the accumulator dtype and is added to (+=). A GPU takes
// factors of one dtype without scales.
void linear_forward(const Context&, Factor x_TI, Factor w_OI, Tensor y_TO);
void linear_backward_input(const Context&, Factor dy_TO, Factor w_OI, Tensor dx_TI);
void linear_backward_weight(const Context&, Factor dy_TO, Factor x_TI, Tensor dw_OI);

// Group g owns rows [offsets[g], offsets[g+1]) of x and y and the matrix w[g]. offsets has e+1 entries on the
// host, starts at 0, does not decrease and ends at R. A group may be empty: then its dw is left as it is.
void grouped_linear_forward(const Context&, std::span<const std::int64_t> offsets, Factor x_RI, Factor w_eOI,
                            Tensor y_RO);
void grouped_linear_backward_input(const Context&, std::span<const std::int64_t> offsets, Factor dy_RO,
                                   Factor w_eOI, Tensor dx_RI);
void grouped_linear_backward_weight(const Context&, std::span<const std::int64_t> offsets, Factor dy_RO,
                                    Factor x_RI, Tensor dw_eOI);

// Who computes products on this CPU: what doctor and the passport report.
struct GemmBackend {
  const char* name;    // "avx512 (own)", "openblas", "openblas (bf16 widened)", "plain" (f64)
  bool row_invariant;  // the own kernels are, which take AVX-512 (and AVX512_BF16 for bf16); a library is not
};
GemmBackend gemm_backend(DType dtype);

}  // namespace jevons
