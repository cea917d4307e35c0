// Small kernels, right as they stand, each with defects that a test can ask for.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace jevons::test {

enum class Defect : int {
  kNone,
  kMissingBarrier,        // a shared array is read before the other threads have written it
  kMissingSecondBarrier,  // it is written again while others still read it
  kDivergentBarrier,      // only one warp reaches a __syncthreads
  kPastSharedArray,       // one element behind a shared array is read
  kUnsetSharedElement,    // an element of it is never written
  kPastRow,               // a row's block writes one element too many
  kPlainCount,            // blocks add to one counter without atomics
  kShuffleAsBarrier,      // lanes exchange through memory with a shuffle between instead of __syncwarp
  kAbsentLane,            // a shuffle reads a lane that took no part
};

// sums[r] = sum of row r of x (rows, cols); one block per two rows.
void row_sums(const float* x, float* sums, int rows, int cols, Defect defect, cudaStream_t stream);
// x *= factor, in place; one block per row.
void scale_rows(float* x, int rows, int cols, float factor, Defect defect, cudaStream_t stream);
// counts[e] += number of i with expert[i] = e.
void count_experts(const std::int32_t* expert, std::int32_t* counts, int n, Defect defect,
                   cudaStream_t stream);
// y[i] = x[32 * (i / 32) + 31 - i % 32]: every warp turns its part round. n is a multiple of 32.
void reverse_in_warps(const float* x, float* y, int n, Defect defect, cudaStream_t stream);

}  // namespace jevons::test
