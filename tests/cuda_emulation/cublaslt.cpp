// cuBLASLt on the emulated GPU: D = alpha op(A) op(B) + beta C, sums in the type of the scale. Stricter than
// it must be where a program could go wrong unseen: a product fails if an address is less aligned than its
// algorithm was chosen for, and every product reads and writes its workspace.
#include <cublasLt.h>

#include <cstring>
#include <memory>
#include <vector>

#include "control.h"
#include "stand_in.h"
#include "tests/cuda_emulation/matrix_product.h"

using namespace emulation;

namespace {

constexpr std::size_t kMostWorkspace = 8192;         // bytes
constexpr std::uintptr_t kWorkspaceAlignment = 256;  // as seen on an H100; the headers do not say
constexpr std::uint64_t kAlgorithm = 0xa190;         // marks an algorithm made here

struct Description {
  cudaDataType_t scale;
  std::int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t alignment = 256;
};

template <class T, class Handle>
T& of(Handle handle) {
  return *reinterpret_cast<T*>(handle);
}
template <class T>
bool take(T& to, const void* value, std::size_t bytes) {
  if (bytes != sizeof to) return false;
  std::memcpy(&to, value, bytes);
  return true;
}

bool fits(const Description& d, const Layout& a, const Layout& b, const Layout& c) {
  const std::uint64_t m = d.transpose_a ? a.cols : a.rows, k = d.transpose_a ? a.rows : a.cols;
  const std::uint64_t n = d.transpose_b ? b.rows : b.cols, k_of_b = d.transpose_b ? b.cols : b.rows;
  return k == k_of_b && c.rows == m && c.cols == n && m > 0 && n > 0 && k > 0 && a.type == b.type &&
         a.count == c.count && b.count == c.count;
}

// Told column by column: between them lie other matrices, or nothing that was ever written.
void check_matrices(const void* first, const Layout& layout, Access access) {
  for (std::int32_t i = 0; i < layout.count; ++i) {
    const char* const matrix = static_cast<const char*>(first) + layout.start_of(i);
    for (std::uint64_t col = 0; col < layout.cols; ++col) {
      const std::size_t size = element_size(layout.type);
      check_operation_access(matrix + layout.at(0, col) * size, layout.rows * size, access);
    }
  }
}

// What algorithms ask for depends on the shape.
std::size_t workspace_of(const Layout& c) {
  return kMostWorkspace - 256 * ((c.rows + 3 * c.cols) % 16);
}

// Of the shape that an algorithm was chosen for.
std::uint64_t mark_of(const Description& d, const Layout& a, const Layout& c) {
  const std::uint64_t k = d.transpose_a ? a.rows : a.cols;
  return c.rows << 42 ^ c.cols << 21 ^ k;
}

// Whether an algorithm takes its own shape alone, and this is another.
bool refused(const cublasLtMatmulAlgo_t& algorithm, const Description& d, const Layout& a, const Layout& c) {
  return settings().exact_algorithms && algorithm.data[2] != mark_of(d, a, c);
}

// The types that the documentation of cublasLtMatmul lists for these scales.
bool supported(const Description& d, cudaDataType_t in, cudaDataType_t out) {
  if (d.scale == CUDA_R_64F) return in == CUDA_R_64F && out == CUDA_R_64F;
  return (in == CUDA_R_32F && out == CUDA_R_32F) ||
         (in == CUDA_R_16BF && (out == CUDA_R_16BF || out == CUDA_R_32F));
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                 : "CUBLAS_STATUS_INVALID_VALUE";
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  const bool known = (compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F) ||
                     (compute == CUBLAS_COMPUTE_64F && scale == CUDA_R_64F);
  if (!known) return CUBLAS_STATUS_NOT_SUPPORTED;
  *d = reinterpret_cast<cublasLtMatmulDesc_t>(new Description{scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete &of<Description>(d);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  Description& description = of<Description>(d);
  const bool taken =
      (attribute == CUBLASLT_MATMUL_DESC_TRANSA && take(description.transpose_a, value, bytes)) ||
      (attribute == CUBLASLT_MATMUL_DESC_TRANSB && take(description.transpose_b, value, bytes));
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t cols, std::int64_t ld) {
  if (rows == 0 || cols == 0 || ld < static_cast<std::int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &of<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  Layout& to = of<Layout>(layout);
  const bool taken =
      (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && take(to.count, value, bytes)) ||
      (attribute == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && take(to.step, value, bytes));
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &of<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  Preference& p = of<Preference>(preference);
  const bool taken = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? take(p.workspace, value, bytes)
                                                                           : take(p.alignment, value, bytes);
  return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  const Preference& p = of<Preference>(preference);
  if (wanted < 1 || !fits(of<Description>(d), of<Layout>(a), of<Layout>(b), of<Layout>(c)))
    return CUBLAS_STATUS_INVALID_VALUE;
  *found = 0;
  if (p.workspace < kMostWorkspace || !supported(of<Description>(d), of<Layout>(a).type, of<Layout>(c).type))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].algo.data[0] = kAlgorithm;
  results[0].algo.data[1] = p.alignment;
  results[0].algo.data[2] = mark_of(of<Description>(d), of<Layout>(a), of<Layout>(c));
  results[0].workspaceSize = workspace_of(of<Layout>(c));
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  if (algorithm->data[0] != kAlgorithm ||
      !fits(of<Description>(d), of<Layout>(a), of<Layout>(b), of<Layout>(c)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (refused(*algorithm, of<Description>(d), of<Layout>(a), of<Layout>(c)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  result->workspaceSize = workspace_of(of<Layout>(c));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* out,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  const Description& description = of<Description>(d);
  const cudaDataType_t scale = description.scale;
  const Task task{description.transpose_a != CUBLAS_OP_N,
                  description.transpose_b != CUBLAS_OP_N,
                  of<Layout>(layout_a),
                  of<Layout>(layout_b),
                  of<Layout>(layout_d),
                  a,
                  b,
                  c,
                  out,
                  load_element(alpha, scale, 0),
                  load_element(beta, scale, 0)};
  if (!fits(description, task.a, task.b, task.d) || algorithm == nullptr || algorithm->data[0] != kAlgorithm)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (refused(*algorithm, description, task.a, task.d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const std::size_t scratch = workspace_of(task.d);
  if (reinterpret_cast<std::uintptr_t>(workspace) % kWorkspaceAlignment != 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  const std::uint64_t alignment = algorithm->data[1];
  for (const void* p : {a, b, c, static_cast<const void*>(out)}) {
    if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (!on_device(a, task.a.bytes()) || !on_device(b, task.b.bytes()) || !on_device(out, task.d.bytes()) ||
      c != out || workspace_bytes < scratch || !on_device(workspace, scratch)) {
    misuse(cudaErrorInvalidValue,
           "cublasLtMatmul: an operand or the workspace is not device memory, or too short");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  enqueue(stream, [=] {
    check_matrices(task.pa, task.a, Access::kRead);
    check_matrices(task.pb, task.b, Access::kRead);
    if (task.beta != 0) check_matrices(task.pc, task.d, Access::kRead);
    check_operation_access(workspace, scratch, Access::kWrite);
    std::memset(workspace, 0xff, scratch);
    check_matrices(task.pd, task.d, Access::kWrite);
    scale == CUDA_R_64F ? multiply<double>(task) : multiply<float>(task);
    return cudaSuccess;
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
