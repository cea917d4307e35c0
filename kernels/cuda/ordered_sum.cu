#include "kernels/cuda/ordered_sum.h"

#include <type_traits>

#include "kernels/cuda/gpu.h"

namespace jevons::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;

template <class Sum>
__device__ Sum combine(Combine how, Sum a, Sum b) {
  if (how == Combine::kSum) return a + b;
  if (how == Combine::kMax) return a < b ? b : a;
  return b < a ? b : a;
}

template <class T, class Sum>
__global__ void combine_kernel(Combine how, const T* parts, int count, std::int64_t n, std::int64_t stride,
                               T* out) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    Sum sum = static_cast<Sum>(parts[i]);
    for (int part = 1; part < count; ++part)
      sum = combine(how, sum, static_cast<Sum>(parts[part * stride + i]));
    out[i] = static_cast<T>(sum);
  }
}

template <class T>
void start(const Stream& stream, Combine how, const Parts& parts, void* out) {
  using Sum = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  const std::int64_t blocks = (parts.n + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
  launch(combine_kernel<T, Sum>, dim3(grid), dim3(kThreads), 0, static_cast<cudaStream_t>(stream.handle()),
         how, static_cast<const T*>(parts.data), parts.count, parts.n, parts.stride, static_cast<T*>(out));
}

}  // namespace

void combine_in_order(const Stream& stream, Combine how, DType dtype, const Parts& parts, void* out) {
  if (parts.n == 0) return;
  switch (dtype) {
    case DType::kF32:
      return start<float>(stream, how, parts, out);
    case DType::kBF16:
      return start<bf16>(stream, how, parts, out);
    case DType::kF64:
      return start<double>(stream, how, parts, out);
    case DType::kI32:
      return start<std::int32_t>(stream, how, parts, out);
    case DType::kI64:
      return start<std::int64_t>(stream, how, parts, out);
    case DType::kU8:
      return;
  }
}

}  // namespace jevons::cuda
