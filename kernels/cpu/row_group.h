// The group that runs a row kernel on one CPU thread: loops which the compiler turns into vector code.
// docs/kernels-row.md states the contract that every group (a CPU thread, a warp, a block) keeps.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/row/log_sum_exp.h"
#include "kernels/row/pick.h"

namespace jevons::cpu {

class RowGroup {
 public:
  // f(i) for every i of [0, n). The calls are independent of one another, here and below: f(i) may write what
  // it alone reads.
  template <class F>
  void each(std::int64_t n, F f) const {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) f(i);
  }

  // Sum of f(i) in a fixed order that depends on n only; 0 for n = 0.
  template <class F>
  auto sum(std::int64_t n, F f) const {
    using A = decltype(f(n));
    return fold(n, A(0), f, [](A a, A b) { return a + b; });
  }

  // Largest f(i); NaNs are passed over; -infinity for n = 0.
  template <class F>
  auto max(std::int64_t n, F f) const {
    using A = decltype(f(n));
    return fold(n, -std::numeric_limits<A>::infinity(), f, [](A a, A b) { return b > a ? b : a; });
  }

  // Of f(i) for every i of [0, n).
  template <class F>
  auto log_sum_exp(std::int64_t n, F f) const {
    using A = decltype(f(n));
    const A largest = max(n, f), shift = shift_of(largest);
    return LogSumExp<A>{largest, sum(n, [f, shift](std::int64_t i) { return exp_of(f(i) - shift); })};
  }

  // The largest key(i) of those i of [0, n) with eligible(i), ties to the lower i. Branch-free: two maxima,
  // the second of the places counted from the end.
  template <class Eligible, class Key>
  auto best(std::int64_t n, Eligible eligible, Key key) const {
    using A = decltype(key(n));
    const A value =
        max(n, [=](std::int64_t i) { return eligible(i) ? key(i) : -std::numeric_limits<A>::infinity(); });
    const A from_end = max(
        n, [=](std::int64_t i) { return eligible(i) & (key(i) == value) ? static_cast<A>(n - i) : A(0); });
    return Pick<A>{value, from_end > 0 ? n - static_cast<std::int64_t>(from_end) : -1};
  }

  // store(i, load(0, i) joined with load(1, i), with load(2, i), ..., load(count - 1, i)) for every i of [0,
  // n), count >= 1. By strips, whose values stay in the first-level cache while the parts stream by.
  template <class Load, class Join, class Store>
  void in_order(std::int64_t n, std::int64_t count, Load load, Join join, Store store) const {
    using A = decltype(load(n, n));
    constexpr std::int64_t kStrip = 1024;
    A value[kStrip];
    for (std::int64_t begin = 0; begin < n; begin += kStrip) {
      const std::int64_t size = n - begin < kStrip ? n - begin : kStrip;
      for (std::int64_t i = 0; i < size; ++i) value[i] = load(0, begin + i);
      for (std::int64_t part = 1; part < count; ++part) {
#pragma GCC ivdep
        for (std::int64_t i = 0; i < size; ++i) value[i] = join(value[i], load(part, begin + i));
      }
#pragma GCC ivdep
      for (std::int64_t i = 0; i < size; ++i) store(begin + i, value[i]);
    }
  }

  // Nothing to do: a group is one thread.
  void sync() const {}

  // f() once per group.
  template <class F>
  void once(F f) const {
    f();
  }

 private:
  // Element i goes to lane i % kLanes; the lanes are folded pairwise at the end. Without the lanes the order
  // of a floating-point sum would forbid vector code; fewer leave bf16 rows at half the speed.
  template <class A, class F, class Join>
  static A fold(std::int64_t n, A identity, F f, Join join) {
    constexpr int kLanes = 32;
    A lane[kLanes];
    for (A& value : lane) value = identity;
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
      for (int l = 0; l < kLanes; ++l) lane[l] = join(lane[l], f(i + l));
    }
    for (int l = 0; i + l < n; ++l) lane[l] = join(lane[l], f(i + l));
    return fold_lanes<kLanes>(lane, join);
  }

  // Recursive, so that every step is a loop of constant length.
  template <int kLanes, class A, class Join>
  static A fold_lanes(A* lane, Join join) {
    if constexpr (kLanes == 1) {
      return lane[0];
    } else {
      for (int l = 0; l < kLanes / 2; ++l) lane[l] = join(lane[l], lane[l + kLanes / 2]);
      return fold_lanes<kLanes / 2>(lane, join);
    }
  }
};

}  // namespace jevons::cpu
