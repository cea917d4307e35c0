// Values that the lanes of a warp exchange: numbers, and what row kernels reduce beside them.
#pragma once

#include <limits>

#include "kernels/cuda/gpu.h"
#include "kernels/row/log_sum_exp.h"

namespace jevons::cuda {

inline constexpr int kWarp = 32;

// Pick with a short index: kNone is behind all.
template <class A>
struct Candidate {
  static constexpr int kNone = std::numeric_limits<int>::max();
  A value;
  int index;
};

// The value of the lane whose number differs in the bit `apart`.
template <class A>
__device__ A exchange(unsigned lanes, A value, int apart) {
  return __shfl_xor_sync(lanes, value, apart);
}
template <class A>
__device__ LogSumExp<A> exchange(unsigned lanes, LogSumExp<A> value, int apart) {
  return {exchange(lanes, value.max, apart), exchange(lanes, value.sum, apart)};
}
template <class A>
__device__ Candidate<A> exchange(unsigned lanes, Candidate<A> value, int apart) {
  return {exchange(lanes, value.value, apart), exchange(lanes, value.index, apart)};
}

}  // namespace jevons::cuda
