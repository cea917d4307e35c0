#include "kernels/cuda/grouped_gemm.h"

#include <cublas_v2.h>

#include <cstdint>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cuda/pointer_table.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

constexpr std::uintptr_t kAlignment = 16;  // of every matrix and row in a grouped call, bytes

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ExitCode::kFailure, "cuBLAS, {}: {}", what, cublasGetStatusName(status));
}

// One per thread, since a thread is what works on one GPU. Its scratch memory is the library's own, allocated
// with the handle.
class Handle {
 public:
  Handle() { check(cublasCreate(&handle_), "creation"); }
  ~Handle() { cublasDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cublasHandle_t get() const { return handle_; }

 private:
  cublasHandle_t handle_ = nullptr;
};

// The arguments of the call, a group of one product each. The library reads matrices by columns, so our
// row-major C (m, n) is its C^T = B^T A^T: its first operand is our B and its second our A
// (kernels/cuda/gemm.cpp).
struct Groups {
  explicit Groups(std::span<const Product> products)
      : sizes(products.size(), 1), alpha(products.size(), 1), beta(products.size(), 0) {
    for (const Product& p : products) {
      first_op.push_back(p.b.contiguous == Contiguous::kInner ? CUBLAS_OP_T : CUBLAS_OP_N);
      second_op.push_back(p.a.contiguous == Contiguous::kInner ? CUBLAS_OP_N : CUBLAS_OP_T);
      m.push_back(static_cast<int>(p.n)), n.push_back(static_cast<int>(p.m));
      k.push_back(static_cast<int>(p.k));
      first_ld.push_back(static_cast<int>(p.b.ld)), second_ld.push_back(static_cast<int>(p.a.ld));
      result_ld.push_back(static_cast<int>(p.ldc));
    }
    for (const Product& p : products) addresses.push_back(p.b.data);
    for (const Product& p : products) addresses.push_back(p.a.data);
    for (const Product& p : products) addresses.push_back(p.c);
  }

  std::vector<cublasOperation_t> first_op, second_op;
  std::vector<int> m, n, k, first_ld, second_ld, result_ld, sizes;
  std::vector<float> alpha, beta;
  std::vector<const void*> addresses;  // of all first operands, all second, all results
};

}  // namespace

bool has_grouped_form(DType dtype, const Product& p) {
  const auto bits = reinterpret_cast<std::uintptr_t>(p.a.data) | reinterpret_cast<std::uintptr_t>(p.b.data) |
                    reinterpret_cast<std::uintptr_t>(p.c) |
                    static_cast<std::uintptr_t>(p.a.ld | p.b.ld | p.ldc) * size_of(DType::kBF16);
  return dtype == DType::kBF16 && p.output == Output::kAssign && bits % kAlignment == 0;
}

void run_grouped(const Context& ctx, std::span<const Product> products) {
  if (products.empty()) return;
  thread_local const Handle handle;
  ENSURE(ctx.work != nullptr, "matrix products on CUDA need the work arena");
  const Groups groups(products);
  const auto count = static_cast<std::int64_t>(products.size());
  // The stream orders later users of this memory behind the products.
  const ArenaScope scope(*ctx.work);
  const Tensor memory = ctx.work->alloc({3 * count}, DType::kI64);
  auto* const table = static_cast<const void**>(memory.data);
  write_pointers(*ctx.stream, groups.addresses, table);
  check(cublasSetStream(handle.get(), stream_of(ctx)), "stream");
  check(cublasGemmGroupedBatchedEx(
            handle.get(), groups.first_op.data(), groups.second_op.data(), groups.m.data(), groups.n.data(),
            groups.k.data(), groups.alpha.data(), table, CUDA_R_16BF, groups.first_ld.data(), table + count,
            CUDA_R_16BF, groups.second_ld.data(), groups.beta.data(), const_cast<void**>(table + 2 * count),
            CUDA_R_16BF, groups.result_ld.data(), static_cast<int>(count), groups.sizes.data(),
            CUBLAS_COMPUTE_32F),
        "grouped products");
}

}  // namespace jevons::cuda
