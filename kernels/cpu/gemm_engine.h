// One-thread matrix products behind one small interface, so that threading, grouping and checks are written
// once (cpu/gemm.cpp) and every kind of CPU gets its own inner loops: C (m, n) = or += A (m, k) B (k, n). The
// sum over k of one element runs in an order that depends on k alone when row_invariant is set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/product.h"

namespace jevons::cpu {

// B is packed first, in panels of kPanelColumns columns that may be packed by different threads and then be
// read by all of them; packed memory is aligned to kAlignment.
inline constexpr std::int64_t kPanelColumns = 32;

struct GemmEngine {
  const char* name;
  DType dtype;  // of the operands that it reads, which have no scale; C is in accumulator_of it or in bf16
  bool row_invariant;
  // An accumulating product may be cut along k at multiples of this without a change of bits.
  std::int64_t k_block;
  std::size_t (*packed_bytes)(std::int64_t n, std::int64_t k);
  // Packs panels [panel_begin, panel_end) of p.b into their places in `packed`.
  void (*pack)(const Product& p, std::int64_t panel_begin, std::int64_t panel_end, void* packed);
  void (*multiply)(const Product& p, const void* packed);
};

// The best engine that this CPU can run.
const GemmEngine& gemm_engine(DType dtype);

// Each engine by itself, for tests and for choosing. The AVX-512 ones may be called on CPUs that have it
// only.
const GemmEngine& gemm_engine_avx512_f32();
const GemmEngine& gemm_engine_avx512_bf16();
const GemmEngine& gemm_engine_blas_f32();
const GemmEngine& gemm_engine_blas_bf16();
const GemmEngine& gemm_engine_plain_f64();

// Number of kPanelColumns-wide panels of an n-column matrix.
inline std::int64_t panels_of(std::int64_t n) {
  return (n + kPanelColumns - 1) / kPanelColumns;
}

}  // namespace jevons::cpu
