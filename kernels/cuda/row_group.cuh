// The groups that run a row kernel on a GPU: the 32 threads of a warp, or all threads of a block. They keep
// the contract of docs/kernels-row.md: element i belongs to one thread, and the order of a sum depends on n
// and on the kind of group only.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/cuda/gpu.h"
#include "kernels/row/pack.h"

namespace jevons::cuda {

inline constexpr int kWarp = 32;

// kPack: elements that a thread takes together, if they divide n; 1: each thread takes single elements.
template <int kThreads, int kPack>
class RowGroup {
  static_assert(kThreads % kWarp == 0);

 public:
  template <class F>
  __device__ void each(std::int64_t n, F f) const {
    if (in_packs(n)) {
      if constexpr (kPack > 1) {
        for (std::int64_t i = first() * kPack; i < n; i += kThreads * kPack) f(PackIndex<kPack>{i});
      }
    } else {
      for (std::int64_t i = first(); i < n; i += kThreads) f(i);
    }
  }

  template <class F>
  __device__ auto sum(std::int64_t n, F f) const {
    using A = decltype(f(n));
    return fold(n, A(0), f, [](A a, A b) { return a + b; });
  }

  template <class F>
  __device__ auto max(std::int64_t n, F f) const {
    using A = decltype(f(n));
    return fold(n, -std::numeric_limits<A>::infinity(), f, [](A a, A b) { return b > a ? b : a; });
  }

  __device__ void sync() const {
    if constexpr (kThreads == kWarp) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  template <class F>
  __device__ void once(F f) const {
    if (first() == 0) f();
  }

 private:
  __device__ static int first() { return static_cast<int>(threadIdx.x) % kThreads; }
  __device__ static bool in_packs(std::int64_t n) { return kPack > 1 && n % kPack == 0; }

  template <class A, class F, class Join>
  __device__ static A fold(std::int64_t n, A identity, F f, Join join) {
    A mine = identity;
    if (in_packs(n)) {
      if constexpr (kPack > 1) {
        Pack<A, kPack> lanes(identity);
        for (std::int64_t i = first() * kPack; i < n; i += kThreads * kPack) {
          const Pack<A, kPack> values = f(PackIndex<kPack>{i});
          for (int j = 0; j < kPack; ++j) lanes.lane[j] = join(lanes.lane[j], values.lane[j]);
        }
        for (int width = kPack / 2; width > 0; width /= 2) {
          for (int j = 0; j < width; ++j) lanes.lane[j] = join(lanes.lane[j], lanes.lane[j + width]);
        }
        mine = lanes.lane[0];
      }
    } else {
      for (std::int64_t i = first(); i < n; i += kThreads) mine = join(mine, f(i));
    }
    return across(mine, join);
  }

  // Every thread's value joined in a fixed tree; all threads get the result.
  template <class A, class Join>
  __device__ static A across(A value, Join join) {
    for (int apart = kWarp / 2; apart > 0; apart /= 2)
      value = join(value, __shfl_xor_sync(0xffffffffu, value, apart));
    if constexpr (kThreads > kWarp) {
      GPU_SHARED(A, of_warp, [kThreads / kWarp]);
      if (first() % kWarp == 0) of_warp[first() / kWarp] = value;
      __syncthreads();
      value = of_warp[0];
      for (int warp = 1; warp < kThreads / kWarp; ++warp) value = join(value, of_warp[warp]);
      __syncthreads();  // the next fold writes of_warp again
    }
    return value;
  }
};

}  // namespace jevons::cuda
