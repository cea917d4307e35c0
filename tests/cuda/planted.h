// Small kernels, right as they stand, each with defects that a test can ask for; and kernels that use what
// the emulated device language offers.
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
  kSyncOfHalves,          // the same with a __syncwarp of each half
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

// Pointers inside a struct are not seen at the launch. *view.to = *view.from.
struct Cells {
  const float* from;
  float* to;
};
void copy_cell(Cells cells, cudaStream_t stream);

// What one warp's lane l gets from each warp operation for the value l + 1 (and the vote "l is odd"), in
// column l.
enum WarpRow {
  kShfl,
  kShflXor,
  kShflUp,
  kShflDown,
  kBallot,
  kAnyAll,
  kReduceAdd,
  kReduceMax,
  kReduceMin,
  kWarpRows
};
void warp_operations(std::int32_t* results, cudaStream_t stream);  // (kWarpRows, 32)

// `n` threads in blocks of 64 update each of six cells with their number: add, max, min, or, exchange,
// compare-and-swap.
void atomic_operations(std::int32_t* cells, int n, cudaStream_t stream);

// Half of a warp waits for the whole warp, and the other half for the whole block.
void deadlock(cudaStream_t stream);

}  // namespace jevons::test
