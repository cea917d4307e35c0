// The groups that run a row kernel on a GPU: 8, 16 or all threads of a warp, or all threads of a block. They
// keep the contract of docs/kernels-row.md: element i belongs to one thread, and the order of a sum depends
// on n and on the kind of group only.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda/lanes.cuh"
#include "kernels/row/pack.h"
#include "kernels/row/pick.h"

namespace jevons::cuda {

// kPack: elements that a thread takes together, if they divide n; 1: each thread takes single elements.
template <int kThreads, int kPack>
class RowGroup {
  static_assert(kThreads == 8 || kThreads == 16 || kThreads % kWarp == 0);
  static constexpr int kLanes = kThreads < kWarp ? kThreads : kWarp;  // of one warp

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

  // In one pass: a sum so far is scaled when a larger element comes.
  template <class F>
  __device__ auto log_sum_exp(std::int64_t n, F f) const {
    using A = decltype(f(n));
    LogSumExp<A> mine{-std::numeric_limits<A>::infinity(), 0};
    each(n, [&mine, f](auto i) { mine = extended(mine, f(i)); });
    return across(mine, [](const LogSumExp<A>& a, const LogSumExp<A>& b) {
      const A max = b.max > a.max ? b.max : a.max, shift = shift_of(max);
      return LogSumExp<A>{max, a.sum * exp_of(a.max - shift) + b.sum * exp_of(b.max - shift)};
    });
  }

  // Element by element, in kernels with packs too.
  template <class Eligible, class Key>
  __device__ auto best(std::int64_t n, Eligible eligible, Key key) const {
    using A = decltype(key(n));
    Candidate<A> mine{-std::numeric_limits<A>::infinity(), Candidate<A>::kNone};
    const auto join = [](const Candidate<A>& a, const Candidate<A>& b) {
      return (b.value > a.value) | ((b.value == a.value) & (b.index < a.index)) ? b : a;
    };
    for (int i = first(); i < static_cast<int>(n); i += kThreads) {
      if (eligible(i)) mine = join(mine, Candidate<A>{key(i), i});
    }
    const Candidate<A> all = across(mine, join);
    return Pick<A>{all.value, all.index == Candidate<A>::kNone ? -1 : std::int64_t{all.index}};
  }

  // Element by element, in kernels with packs too.
  template <class Load, class Join, class Store>
  __device__ void in_order(std::int64_t n, std::int64_t count, Load load, Join join, Store store) const {
    for (std::int64_t i = first(); i < n; i += kThreads) {
      auto value = load(0, i);
      for (std::int64_t part = 1; part < count; ++part) value = join(value, load(part, i));
      store(i, value);
    }
  }

  __device__ void sync() const {
    if constexpr (kThreads <= kWarp) {
      __syncwarp(lanes());
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
  // The threads of this group in their warp: those of another take other branches.
  __device__ static unsigned lanes() {
    if constexpr (kLanes == kWarp) {
      return 0xffffffffu;
    } else {
      return ((1u << kLanes) - 1) << (threadIdx.x % kWarp / kLanes * kLanes);
    }
  }
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

  template <class A>
  __device__ static LogSumExp<A> extended(const LogSumExp<A>& from, A x) {
    return extended(from, Pack<A, 1>(x));
  }
  template <class A, int kElements>
  __device__ static LogSumExp<A> extended(const LogSumExp<A>& from, const Pack<A, kElements>& x) {
    A max = from.max;
    for (int j = 0; j < kElements; ++j) max = x.lane[j] > max ? x.lane[j] : max;
    const A shift = shift_of(max);
    A sum = from.sum * exp_of(from.max - shift);
    for (int j = 0; j < kElements; ++j) sum += exp_of(x.lane[j] - shift);
    return {max, sum};
  }

  // Every thread's value joined in a fixed tree; all threads get the result.
  template <class A, class Join>
  __device__ static A across(A value, Join join) {
    for (int apart = kLanes / 2; apart > 0; apart /= 2) value = join(value, exchange(lanes(), value, apart));
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
