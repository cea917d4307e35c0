#include "tests/cuda/planted.h"

#include "kernels/cuda/gpu.h"

namespace jevons::test {
namespace {

constexpr int kThreads = 64;

__global__ void row_sums_kernel(const float* x, float* sums, int rows, int cols, Defect defect) {
  GPU_SHARED(float, part, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  for (int row = static_cast<int>(blockIdx.x); row < rows; row += static_cast<int>(gridDim.x)) {
    float sum = 0;
    for (int i = thread; i < cols; i += kThreads) sum += x[row * cols + i];
    if (defect != Defect::kUnsetSharedElement || thread != 5) part[thread] = sum;
    if (defect != Defect::kMissingBarrier) __syncthreads();
    if (defect == Defect::kDivergentBarrier && thread < 32) __syncthreads();
    if (thread == row % kThreads) {  // not always the first, so that no warp is ahead by chance
      float total = 0;
      for (int i = 0; i < kThreads + (defect == Defect::kPastSharedArray ? 1 : 0); ++i) total += part[i];
      sums[row] = total;
    }
    if (defect != Defect::kMissingSecondBarrier) __syncthreads();
  }
}

__global__ void scale_rows_kernel(float* x, int cols, float factor, Defect defect) {
  float* row = x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(cols);
  const int end = cols + (defect == Defect::kPastRow ? 1 : 0);
  for (int i = static_cast<int>(threadIdx.x); i < end; i += kThreads) row[i] *= factor;
}

__global__ void count_experts_kernel(const std::int32_t* expert, std::int32_t* counts, int n, Defect defect) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  if (defect == Defect::kPlainCount) {
    counts[expert[i]] += 1;
  } else {
    atomicAdd(&counts[expert[i]], 1);
  }
}

__global__ void reverse_in_warps_kernel(const float* x, float* y, Defect defect) {
  GPU_SHARED(float, part, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warpSize;
  const int i = static_cast<int>(blockIdx.x) * kThreads + thread;
  part[thread] = x[i];
  if (defect == Defect::kShuffleAsBarrier) {
    __shfl_sync(~0u, lane, 0);
  } else {
    __syncwarp();
  }
  if (defect == Defect::kAbsentLane && lane < 16) __shfl_sync(0xffffu, lane, 20);
  y[i] = part[thread - lane + warpSize - 1 - lane];
}

}  // namespace

void row_sums(const float* x, float* sums, int rows, int cols, Defect defect, cudaStream_t stream) {
  cuda::launch(row_sums_kernel, (rows + 1) / 2, kThreads, 0, stream, x, sums, rows, cols, defect);
}

void scale_rows(float* x, int rows, int cols, float factor, Defect defect, cudaStream_t stream) {
  cuda::launch(scale_rows_kernel, rows, kThreads, 0, stream, x, cols, factor, defect);
}

void count_experts(const std::int32_t* expert, std::int32_t* counts, int n, Defect defect,
                   cudaStream_t stream) {
  cuda::launch(count_experts_kernel, (n + kThreads - 1) / kThreads, kThreads, 0, stream, expert, counts, n,
               defect);
}

void reverse_in_warps(const float* x, float* y, int n, Defect defect, cudaStream_t stream) {
  cuda::launch(reverse_in_warps_kernel, n / kThreads, kThreads, 0, stream, x, y, defect);
}

}  // namespace jevons::test
