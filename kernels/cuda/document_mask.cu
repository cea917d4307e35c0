#include "kernels/cuda/document_mask.h"

#include "kernels/cuda/gpu.h"

namespace jevons::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr float kMasked = -1e30f;

// A block per query.
__global__ void document_mask_kernel(const std::int32_t* starts, __nv_bfloat16* mask, std::int64_t row) {
  const std::int64_t query = blockIdx.x;
  const std::int32_t start = starts[query];
  for (std::int64_t key = threadIdx.x; key < row; key += blockDim.x)
    mask[query * row + key] = __float2bfloat16(key < start ? kMasked : 0.0f);
}

}  // namespace

void document_mask(const Stream& stream, const Tensor& starts, const Tensor& mask) {
  if (starts.numel() == 0) return;
  launch(document_mask_kernel, dim3(static_cast<unsigned>(starts.numel())), dim3(kThreads), 0,
         static_cast<cudaStream_t>(stream.handle()), starts.ptr<std::int32_t>(),
         static_cast<__nv_bfloat16*>(mask.data), mask.shape[2]);
}

}  // namespace jevons::cuda
