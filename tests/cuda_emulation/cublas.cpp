// The grouped products of cuBLAS on the emulated GPU. Sizes and factors are read on the host at the call,
// addresses from device memory when the operation runs. As strict as the documentation on types, and stricter
// on alignment: every matrix and row of bf16 must be a multiple of 16 bytes.
#include <cublas_v2.h>

#include <cstdint>
#include <vector>

#include "stand_in.h"
#include "tests/cuda_emulation/matrix_product.h"

using namespace emulation;

namespace {

constexpr std::uintptr_t kAlignment = 16;

struct Handle {
  cudaStream_t stream = nullptr;
};

// The types that the documentation of cublasGemmGroupedBatchedEx lists: A, B and C have one.
bool supported(cudaDataType_t a, cudaDataType_t b, cudaDataType_t c, cublasComputeType_t compute) {
  if (a != b || b != c) return false;
  return (compute == CUBLAS_COMPUTE_32F && (a == CUDA_R_32F || a == CUDA_R_16BF || a == CUDA_R_16F)) ||
         (compute == CUBLAS_COMPUTE_64F && a == CUDA_R_64F);
}

Layout layout(cudaDataType_t type, int rows, int cols, int ld) {
  return {type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), ld};
}

bool reads_right(const Layout& matrix, const void* p, Access access) {
  const bool aligned =
      matrix.type != CUDA_R_16BF || (reinterpret_cast<std::uintptr_t>(p) |
                                     (static_cast<std::uintptr_t>(matrix.ld) * element_size(matrix.type))) %
                                            kAlignment ==
                                        0;
  if (!aligned || !on_device(p, matrix.bytes())) return false;
  check_operation_access(p, matrix.bytes(), access);
  return true;
}

cudaError_t run(Task task) {
  const bool right = reads_right(task.a, task.pa, Access::kRead) &&
                     reads_right(task.b, task.pb, Access::kRead) &&
                     (task.beta == 0 || reads_right(task.d, task.pd, Access::kRead)) &&
                     reads_right(task.d, task.pd, Access::kWrite);
  if (!right)
    return misuse(cudaErrorMisalignedAddress,
                  "cublasGemmGroupedBatchedEx: a matrix is not in device memory, too short or misaligned");
  task.a.type == CUDA_R_64F ? multiply<double>(task) : multiply<float>(task);
  return cudaSuccess;
}

}  // namespace

extern "C" {

const char* cublasGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                 : "CUBLAS_STATUS_INVALID_VALUE";
}

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = reinterpret_cast<cublasHandle_t>(new Handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete reinterpret_cast<Handle*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  reinterpret_cast<Handle*>(handle)->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t handle, const cublasOperation_t transa[],
                                          const cublasOperation_t transb[], const int m[], const int n[],
                                          const int k[], const void* alpha, const void* const a[],
                                          cudaDataType_t a_type, const int lda[], const void* const b[],
                                          cudaDataType_t b_type, const int ldb[], const void* beta,
                                          void* const c[], cudaDataType_t c_type, const int ldc[], int groups,
                                          const int group_size[], cublasComputeType_t compute) {
  if (!supported(a_type, b_type, c_type, compute)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const cudaDataType_t scale = compute == CUBLAS_COMPUTE_64F ? CUDA_R_64F : CUDA_R_32F;
  std::vector<Task> tasks;
  for (int group = 0; group < groups; ++group) {
    const bool ta = transa[group] != CUBLAS_OP_N, tb = transb[group] != CUBLAS_OP_N;
    const Layout la = layout(a_type, ta ? k[group] : m[group], ta ? m[group] : k[group], lda[group]);
    const Layout lb = layout(b_type, tb ? n[group] : k[group], tb ? k[group] : n[group], ldb[group]);
    const Layout lc = layout(c_type, m[group], n[group], ldc[group]);
    if (m[group] <= 0 || n[group] <= 0 || k[group] <= 0 || group_size[group] < 0)
      return CUBLAS_STATUS_INVALID_VALUE;  // the library takes 0; no caller of ours needs it
    for (const Layout& l : {la, lb, lc}) {
      if (l.ld < static_cast<std::int64_t>(l.rows)) return CUBLAS_STATUS_INVALID_VALUE;
    }
    const auto at = static_cast<std::size_t>(group);
    const Task task{ta,
                    tb,
                    la,
                    lb,
                    lc,
                    nullptr,
                    nullptr,
                    nullptr,
                    nullptr,
                    load_element(alpha, scale, at),
                    load_element(beta, scale, at)};
    tasks.insert(tasks.end(), static_cast<std::size_t>(group_size[group]), task);
  }
  const std::size_t table = tasks.size() * sizeof(void*);
  if (!on_device(a, table) || !on_device(b, table) || !on_device(c, table)) {
    misuse(cudaErrorInvalidValue, "cublasGemmGroupedBatchedEx: addresses are not in device memory");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(reinterpret_cast<Handle*>(handle)->stream, [=] {
    for (const void* list :
         {static_cast<const void*>(a), static_cast<const void*>(b), static_cast<const void*>(c)})
      check_operation_access(list, table, Access::kRead);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      Task task = tasks[i];
      task.pa = a[i], task.pb = b[i], task.pc = c[i], task.pd = c[i];
      if (const cudaError_t error = run(task); error != cudaSuccess) return error;
    }
    return cudaSuccess;
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
