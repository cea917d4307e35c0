// Engines for CPUs without AVX-512, and the double precision one that gradient checks use.
#include <cblas.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "kernels/cpu/gemm_engine.h"

namespace jevons::cpu {
namespace {

// ---- f64: panels [k][32], one chain of sums per element; simple, row-invariant, not fast.

std::size_t packed_bytes_f64(std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(panels_of(n) * kPanelColumns * k) * sizeof(double);
}

void pack_f64(const Product& p, std::int64_t panel_begin, std::int64_t panel_end, void* packed) {
  const double* b = static_cast<const double*>(p.b.data);
  const bool inner = p.b.contiguous == Contiguous::kInner;
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    double* dst = static_cast<double*>(packed) + panel * kPanelColumns * p.k;
    for (std::int64_t k = 0; k < p.k; ++k) {
      for (std::int64_t j = 0; j < kPanelColumns; ++j) {
        const std::int64_t column = panel * kPanelColumns + j;
        const std::int64_t at = inner ? column * p.b.ld + k : k * p.b.ld + column;
        *dst++ = column < p.n ? b[at] : 0.0;
      }
    }
  }
}

void multiply_f64(const Product& p, const void* packed) {
  const double* a = static_cast<const double*>(p.a.data);
  const bool inner = p.a.contiguous == Contiguous::kInner;
  for (std::int64_t panel = 0; panel < panels_of(p.n); ++panel) {
    const double* panel_data = static_cast<const double*>(packed) + panel * kPanelColumns * p.k;
    const std::int64_t columns = std::min(kPanelColumns, p.n - panel * kPanelColumns);
    for (std::int64_t i = 0; i < p.m; ++i) {
      double sum[kPanelColumns] = {};
      const double* b = panel_data;
      for (std::int64_t k = 0; k < p.k; ++k, b += kPanelColumns) {
        const double value = inner ? a[i * p.a.ld + k] : a[k * p.a.ld + i];
        for (std::int64_t j = 0; j < kPanelColumns; ++j) sum[j] += value * b[j];
      }
      double* c = static_cast<double*>(p.c) + i * p.ldc + panel * kPanelColumns;
      const bool add = p.output == Output::kAccumulate;
      for (std::int64_t j = 0; j < columns; ++j) c[j] = add ? c[j] + sum[j] : sum[j];
    }
  }
}

// ---- BLAS: one thread per call, since the callers thread over blocks. Bits of a row may depend on the other
// rows.

void sgemm(const Product& p, const Operand& a, const Operand& b, float* c, std::int64_t ldc) {
  if (p.m == 0 || p.n == 0) return;
  static std::once_flag once;
  std::call_once(once, [] { openblas_set_num_threads(1); });
  const auto at_least_one = [](std::int64_t ld) {
    return static_cast<blasint>(std::max<std::int64_t>(ld, 1));
  };
  cblas_sgemm(CblasRowMajor, a.contiguous == Contiguous::kInner ? CblasNoTrans : CblasTrans,
              b.contiguous == Contiguous::kInner ? CblasTrans : CblasNoTrans, static_cast<blasint>(p.m),
              static_cast<blasint>(p.n), static_cast<blasint>(p.k), 1.0f, static_cast<const float*>(a.data),
              at_least_one(a.ld), static_cast<const float*>(b.data), at_least_one(b.ld),
              p.output == Output::kAccumulate ? 1.0f : 0.0f, c, at_least_one(ldc));
}

// C = or += A B of f32 operands. A result that is rounded is made in f32 first.
void multiply_blas(const Product& p, const Operand& a, const Operand& b) {
  if (p.c_dtype == DType::kF32) return sgemm(p, a, b, static_cast<float*>(p.c), p.ldc);
  thread_local std::vector<float> c;
  c.resize(static_cast<std::size_t>(p.m * p.n));
  sgemm(p, a, b, c.data(), p.n);
  for (std::int64_t i = 0; i < p.m; ++i) {
    bf16* row = static_cast<bf16*>(p.c) + i * p.ldc;
    for (std::int64_t j = 0; j < p.n; ++j) row[j] = bf16(c[static_cast<std::size_t>(i * p.n + j)]);
  }
}

std::size_t packed_bytes_blas_f32(std::int64_t, std::int64_t) {
  return 0;
}
void pack_blas_f32(const Product&, std::int64_t, std::int64_t, void*) {}
void multiply_blas_f32(const Product& p, const void*) {
  multiply_blas(p, p.a, p.b);
}

// bf16 operands become fp32 (n, k), k contiguous.
void widen(const Operand& x, std::int64_t begin, std::int64_t end, std::int64_t k, float* dst) {
  const bf16* src = static_cast<const bf16*>(x.data);
  const bool inner = x.contiguous == Contiguous::kInner;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < k; ++j)
      dst[i * k + j] = static_cast<float>(src[inner ? i * x.ld + j : j * x.ld + i]);
  }
}

std::size_t packed_bytes_blas_bf16(std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(panels_of(n) * kPanelColumns * k) * sizeof(float);
}

void pack_blas_bf16(const Product& p, std::int64_t panel_begin, std::int64_t panel_end, void* packed) {
  widen(p.b, panel_begin * kPanelColumns, std::min(panel_end * kPanelColumns, p.n), p.k,
        static_cast<float*>(packed));
}

void multiply_blas_bf16(const Product& p, const void* packed) {
  thread_local std::vector<float> a;
  a.resize(static_cast<std::size_t>(p.m * p.k));
  widen(p.a, 0, p.m, p.k, a.data());
  multiply_blas(p, {a.data(), p.k}, {packed, p.k});
}

constexpr std::int64_t kWhole = std::numeric_limits<std::int64_t>::max();
constexpr GemmEngine kPlainF64 = {.name = "plain",
                                  .dtype = DType::kF64,
                                  .row_invariant = true,
                                  .k_block = kWhole,
                                  .packed_bytes = packed_bytes_f64,
                                  .pack = pack_f64,
                                  .multiply = multiply_f64};
constexpr GemmEngine kBlasF32 = {.name = "openblas",
                                 .dtype = DType::kF32,
                                 .row_invariant = false,
                                 .k_block = kWhole,
                                 .packed_bytes = packed_bytes_blas_f32,
                                 .pack = pack_blas_f32,
                                 .multiply = multiply_blas_f32};
constexpr GemmEngine kBlasBf16 = {.name = "openblas (bf16 widened)",
                                  .dtype = DType::kBF16,
                                  .row_invariant = false,
                                  .k_block = kWhole,
                                  .packed_bytes = packed_bytes_blas_bf16,
                                  .pack = pack_blas_bf16,
                                  .multiply = multiply_blas_bf16};

}  // namespace

const GemmEngine& gemm_engine_plain_f64() {
  return kPlainF64;
}
const GemmEngine& gemm_engine_blas_f32() {
  return kBlasF32;
}
const GemmEngine& gemm_engine_blas_bf16() {
  return kBlasBf16;
}

}  // namespace jevons::cpu
