#include "kernels/cuda/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <deque>
#include <map>
#include <vector>

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

constexpr std::uint32_t kAlignedBytes = 16;  // of one load of the widest kind

void check(cublasStatus_t status, const char* what, const Product& p) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ExitCode::kFailure, "cuBLASLt, {} of a product of ({}, {}) by ({}, {}): {}", what, p.m, p.k, p.k, p.n,
       cublasLtGetStatusName(status));
}

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF64:
      return CUDA_R_64F;
    default:
      fail(ExitCode::kFailure, "no matrix product for {}", name_of(dtype));
  }
}

// The largest power of two up to kAlignedBytes that divides every address, row length and distance of
// matrices.
std::uint32_t alignment_of(const ProductBatch& batch) {
  const auto bits_of = [](const void* data, std::int64_t ld, std::int64_t step, DType dtype) {
    return reinterpret_cast<std::size_t>(data) | static_cast<std::size_t>(ld | step) * size_of(dtype);
  };
  const Product& p = batch.first;
  const std::size_t bits = bits_of(p.a.data, p.a.ld, batch.a_step, p.a.dtype) |
                           bits_of(p.b.data, p.b.ld, batch.b_step, p.b.dtype) |
                           bits_of(p.c, p.ldc, batch.c_step, p.c_dtype) | kAlignedBytes;
  return std::uint32_t{1} << std::countr_zero(bits);
}

// What the choice of an algorithm depends on.
struct Key {
  DType dtype, c_dtype;
  Output output;
  Contiguous a, b;
  std::int64_t m, n, k, lda, ldb, ldc, count, a_step, b_step, c_step;
  std::uint32_t alignment;
  auto operator<=>(const Key&) const = default;
};

Key key_of(const ProductBatch& batch) {
  const Product& p = batch.first;
  return {p.a.dtype,      p.c_dtype,    p.output,     p.a.contiguous,
          p.b.contiguous, p.m,          p.n,          p.k,
          p.a.ld,         p.b.ld,       p.ldc,        batch.count,
          batch.a_step,   batch.b_step, batch.c_step, alignment_of(batch)};
}

// Owns a cuBLASLt object made and destroyed by the given functions.
template <class T, auto kDestroy>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (handle_ != nullptr) kDestroy(handle_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* out() { return &handle_; }
  T get() const { return handle_; }

 private:
  T handle_ = nullptr;
};

// The product as cuBLASLt wants it. The library reads matrices by columns, so our row-major C (m, n) is its
// (n, m) matrix C^T = B^T A^T: its first operand is our B and its second our A. An operand whose k is
// contiguous is, read by columns, a (k, outer) matrix: as first operand it is to be transposed, as second it
// is right as it lies.
class Call {
 public:
  explicit Call(const ProductBatch& batch) {
    const Product& p = batch.first;
    const bool f64 = p.a.dtype == DType::kF64;
    const cudaDataType_t scale = f64 ? CUDA_R_64F : CUDA_R_32F;
    check(cublasLtMatmulDescCreate(operation.out(), f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, scale),
          "description", p);
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.contiguous == Contiguous::kInner ? CUBLAS_OP_T : CUBLAS_OP_N, p);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.contiguous == Contiguous::kInner ? CUBLAS_OP_N : CUBLAS_OP_T, p);
    lay_out(first, p.b, p.n, p);
    lay_out(second, p.a, p.m, p);
    check(cublasLtMatrixLayoutCreate(result.out(), data_type(p.c_dtype), static_cast<std::uint64_t>(p.n),
                                     static_cast<std::uint64_t>(p.m), p.ldc),
          "layout of C", p);
    if (batch.count == 1) return;
    repeat(first, batch.count, batch.b_step, p);
    repeat(second, batch.count, batch.a_step, p);
    repeat(result, batch.count, batch.c_step, p);
  }

  using Layout = Owned<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;
  Owned<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy> operation;
  Layout first, second, result;

 private:
  void set(cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value, const Product& p) {
    check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value), "description", p);
  }
  static void lay_out(Layout& layout, const Operand& x, std::int64_t outer, const Product& p) {
    const bool inner = x.contiguous == Contiguous::kInner;
    const auto rows = static_cast<std::uint64_t>(inner ? p.k : outer);
    const auto cols = static_cast<std::uint64_t>(inner ? outer : p.k);
    check(cublasLtMatrixLayoutCreate(layout.out(), data_type(x.dtype), rows, cols, x.ld), "layout", p);
  }
  static void repeat(const Layout& layout, std::int64_t count, std::int64_t step, const Product& p) {
    const auto matrices = static_cast<std::int32_t>(count);
    check(cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices,
                                           sizeof matrices),
          "batch", p);
    check(cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step,
                                           sizeof step),
          "batch", p);
  }
};

// The library's handle and the algorithms chosen so far. One per thread, since a thread is what works on one
// GPU.
class GemmLibrary {
 public:
  GemmLibrary() {
    check(cublasLtCreate(handle_.out()), "creation", {});
    check(cublasLtMatmulPreferenceCreate(preference_.out()), "preferences", {});
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kMostGemmScratch});
  }

  void run(const Context& ctx, const ProductBatch& batch) {
    Prepared one(batch);
    choose(one, batch);
    const ArenaScope scope(work_of(ctx));
    const Tensor workspace = allocate(ctx, 1, one.algorithm.workspaceSize);
    start(one, workspace, stream_of(ctx));
  }

  // The products run beside each other, on a few streams between the work that ctx.stream has and the work it
  // will get: alone, most leave a part of the GPU idle while they begin and end.
  void run_beside(const Context& ctx, std::span<const Product> products) {
    std::deque<Prepared> prepared;
    std::size_t most = 0;
    for (const Product& p : products) {
      choose(prepared.emplace_back(ProductBatch{p}), {with_usual_rows(p)});
      most = std::max(most, prepared.back().algorithm.workspaceSize);
    }
    const ArenaScope scope(work_of(ctx));
    const Tensor workspaces = allocate(ctx, kGemmLanes, most);
    ctx.stream->record(begun_);
    for (Lane& lane : lanes_) lane.stream.wait(begun_);
    for (std::int64_t i = 0; i < std::ssize(prepared); ++i) {
      const std::int64_t lane = i % kGemmLanes;
      start(prepared[static_cast<std::size_t>(i)], workspaces.slice(lane, lane + 1),
            native(lanes_[static_cast<std::size_t>(lane)].stream));
    }
    for (Lane& lane : lanes_) {
      lane.stream.record(lane.done);
      ctx.stream->wait(lane.done);
    }
  }

 private:
  struct Lane {
    Stream stream{Device::kCuda};
    Event done{Device::kCuda};
  };
  struct Prepared {
    explicit Prepared(const ProductBatch& of) : batch(of), call(of) {}
    ProductBatch batch;
    Call call;
    cublasLtMatmulHeuristicResult_t algorithm{};
  };

  static Arena& work_of(const Context& ctx) {
    ENSURE(ctx.work != nullptr && ctx.stream != nullptr,
           "matrix products on CUDA need a stream and the work arena");
    return *ctx.work;
  }
  // Scratch memory of `lanes` streams, one row each. The streams order later users of it behind the products.
  // On an H100 the library refuses some that does not begin on such a boundary.
  static Tensor allocate(const Context& ctx, std::int64_t lanes, std::size_t bytes) {
    const std::size_t row = (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return ctx.work->alloc({lanes, static_cast<std::int64_t>(row)}, DType::kU8);
  }

  // An algorithm that was chosen for other sizes may not take these: then one of their own is chosen.
  void choose(Prepared& one, const ProductBatch& chosen_for) {
    one.algorithm = algorithm_for(chosen_for);
    cublasStatus_t status = check_algorithm(one);
    if (status != CUBLAS_STATUS_SUCCESS) {
      one.algorithm = algorithm_for(one.batch);
      status = check_algorithm(one);
    }
    check(status, "algorithm", one.batch.first);
  }
  cublasStatus_t check_algorithm(Prepared& one) {
    const Call& call = one.call;
    return cublasLtMatmulAlgoCheck(handle_.get(), call.operation.get(), call.first.get(), call.second.get(),
                                   call.result.get(), call.result.get(), &one.algorithm.algo, &one.algorithm);
  }

  void start(const Prepared& one, const Tensor& workspace, cudaStream_t stream) {
    const Product& p = one.batch.first;
    const Call& call = one.call;
    const double one_f64 = 1, beta_f64 = p.output == Output::kAccumulate ? 1 : 0;
    const float one_f32 = 1, beta_f32 = static_cast<float>(beta_f64);
    const bool f64 = p.a.dtype == DType::kF64;
    const void* const alpha = f64 ? static_cast<const void*>(&one_f64) : &one_f32;
    const void* const beta = f64 ? static_cast<const void*>(&beta_f64) : &beta_f32;
    check(cublasLtMatmul(handle_.get(), call.operation.get(), alpha, p.b.data, call.first.get(), p.a.data,
                         call.second.get(), beta, p.c, call.result.get(), p.c, call.result.get(),
                         &one.algorithm.algo, workspace.data, one.algorithm.workspaceSize, stream),
          "start", p);
  }

  // The same product with as many rows as algorithms are chosen for: the number of rows of a group differs
  // from step to step, and choosing costs more than a small product. Rows are m of an assigned C and k of an
  // accumulated one.
  static Product with_usual_rows(Product p) {
    std::int64_t& rows = p.output == Output::kAssign ? p.m : p.k;
    rows = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(rows)));
    return p;
  }

  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference_.get(), attribute, &value, sizeof value),
          "preferences", {});
  }

  cublasLtMatmulHeuristicResult_t algorithm_for(const ProductBatch& batch) {
    const Product& p = batch.first;
    const Key key = key_of(batch);
    if (const auto known = algorithms_.find(key); known != algorithms_.end()) return known->second;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      prefer(attribute, key.alignment);
    }
    const Call call(batch);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), call.operation.get(), call.first.get(),
                                         call.second.get(), call.result.get(), call.result.get(),
                                         preference_.get(), 1, &best, &found),
          "choice of an algorithm", p);
    ENSURE(found == 1, "cuBLASLt has no algorithm for {} ({}, {}) by ({}, {}) to {}", name_of(p.a.dtype), p.m,
           p.k, p.k, p.n, name_of(p.c_dtype));
    return algorithms_[key] = best;
  }

  Owned<cublasLtHandle_t, &cublasLtDestroy> handle_;
  Owned<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy> preference_;
  std::map<Key, cublasLtMatmulHeuristicResult_t> algorithms_;
  std::array<Lane, kGemmLanes> lanes_;
  Event begun_{Device::kCuda};
};

GemmLibrary& library() {
  thread_local GemmLibrary library;
  return library;
}

void check_operands(const Product& p) {
  ENSURE(p.a.dtype == p.b.dtype, "a matrix product on CUDA takes two operands of one dtype, not {} and {}",
         name_of(p.a.dtype), name_of(p.b.dtype));
  ENSURE(p.a.scale == nullptr && p.b.scale == nullptr, "a matrix product on CUDA takes no scaled {}",
         name_of(p.a.dtype));
}

// A product over nothing: the library refuses matrices without elements.
bool is_empty(const Context& ctx, const Product& p) {
  if (p.m == 0 || p.n == 0) return true;
  if (p.k != 0) return false;
  if (p.output == Output::kAssign) {
    ENSURE(p.ldc == p.n, "a product over nothing with rows apart");
    fill_async(stream_of(ctx), p.c, 0, static_cast<std::size_t>(p.m * p.n) * size_of(p.c_dtype));
  }
  return true;
}

}  // namespace

void run_product(const Context& ctx, const Product& product) {
  check_operands(product);
  if (!is_empty(ctx, product)) library().run(ctx, {product});
}

void run_product_batch(const Context& ctx, const ProductBatch& batch) {
  const Product& p = batch.first;
  check_operands(p);
  ENSURE(p.m > 0 && p.n > 0 && p.k > 0 && batch.count > 0, "a batch of products over nothing");
  library().run(ctx, batch);
}

void run_products(const Context& ctx, std::span<const Product> products) {
  std::vector<Product> all;
  for (const Product& product : products) {
    check_operands(product);
    if (!is_empty(ctx, product)) all.push_back(product);
  }
  if (!all.empty()) library().run_beside(ctx, all);
}

}  // namespace jevons::cuda
