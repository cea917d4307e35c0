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
  } else if (defect == Defect::kSyncOfHalves) {
    __syncwarp(lane < 16 ? 0xffffu : 0xffff0000u);
  } else {
    __syncwarp();
  }
  if (defect == Defect::kAbsentLane && lane < 16) __shfl_sync(0xffffu, lane, 20);
  y[i] = part[thread - lane + warpSize - 1 - lane];
}

__global__ void copy_cell_kernel(Cells cells) {
  *cells.to = *cells.from;
}

__global__ void warp_operations_kernel(std::int32_t* results) {
  const int lane = static_cast<int>(threadIdx.x), value = lane + 1;
  const auto put = [&](WarpRow row, int result) { results[row * warpSize + lane] = result; };
  put(kShfl, __shfl_sync(~0u, value, 3));
  put(kShflXor, __shfl_xor_sync(~0u, value, 5));
  put(kShflUp, __shfl_up_sync(~0u, value, 2, 16));
  put(kShflDown, __shfl_down_sync(~0u, value, 2, 16));
  put(kBallot, static_cast<int>(__ballot_sync(~0u, lane % 2)));
  put(kAnyAll, 10 * __any_sync(~0u, lane == 7) + __all_sync(~0u, lane < 31));
  put(kReduceAdd, static_cast<int>(__reduce_add_sync(~0u, static_cast<unsigned>(value))));
  put(kReduceMax, static_cast<int>(__reduce_max_sync(~0u, static_cast<unsigned>(value))));
  put(kReduceMin, static_cast<int>(__reduce_min_sync(~0u, static_cast<unsigned>(value))));
}

__global__ void atomic_operations_kernel(std::int32_t* cells) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&cells[0], i);
  atomicMax(&cells[1], i);
  atomicMin(&cells[2], i);
  atomicOr(&cells[3], i);
  atomicExch(&cells[4], i);
  atomicCAS(&cells[5], -1, i);
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

}  // namespace

void copy_cell(Cells cells, cudaStream_t stream) {
  cuda::launch(copy_cell_kernel, 1, 1, 0, stream, cells);
}

void warp_operations(std::int32_t* results, cudaStream_t stream) {
  cuda::launch(warp_operations_kernel, 1, 32, 0, stream, results);
}

void atomic_operations(std::int32_t* cells, int n, cudaStream_t stream) {
  cuda::launch(atomic_operations_kernel, n / kThreads, kThreads, 0, stream, cells);
}

void deadlock(cudaStream_t stream) {
  cuda::launch(deadlock_kernel, 1, 32, 0, stream);
}

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
