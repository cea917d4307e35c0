// Which code runs on this CPU: the one place that asks what it can do.
#include "kernels/core/error.h"
#include "kernels/cpu/attention_engine.h"
#include "kernels/cpu/gemm_engine.h"

namespace jevons::cpu {
namespace {

#ifdef JEVONS_AVX512
// Whether the AVX-512 kernels for f32 or bf16 can run here; there are none for f64.
bool has_avx512_kernels(DType dtype) {
  const bool base = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return base && (dtype == DType::kF32 || (dtype == DType::kBF16 && __builtin_cpu_supports("avx512bf16")));
}
#endif

void check_float_type(const char* op, DType dtype) {
  ENSURE(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF64, "no {} for {}", op,
         name_of(dtype));
}

}  // namespace

const GemmEngine& gemm_engine(DType dtype) {
  check_float_type("matrix product", dtype);
  if (dtype == DType::kF64) return gemm_engine_plain_f64();
#ifdef JEVONS_AVX512
  if (has_avx512_kernels(dtype))
    return dtype == DType::kF32 ? gemm_engine_avx512_f32() : gemm_engine_avx512_bf16();
#endif
  return dtype == DType::kF32 ? gemm_engine_blas_f32() : gemm_engine_blas_bf16();
}

const AttentionEngine& attention_engine(DType dtype) {
  check_float_type("attention", dtype);
#ifdef JEVONS_AVX512
  if (has_avx512_kernels(dtype)) return attention_engine_avx512(dtype);
#endif
  return attention_engine_portable(dtype);
}

}  // namespace jevons::cpu
