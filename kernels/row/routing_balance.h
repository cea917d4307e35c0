// How often experts were chosen, the router's z-loss and entropy (derivations: docs/moe.md). A is float or
// double.
#pragma once

#include <cstdint>

#include "kernels/routing.h"
#include "kernels/row/block.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/score_sums.h"

namespace jevons {

// counts[segment, expert] = how often the rows of the segment chose the expert. One call is one of them and
// reads all indices of its segment: no two calls write the same number, and nothing is added atomically.
// For devices with more threads than that; the CPU counts in one pass (kernels/cpu/routing.cpp).
struct RoutingCountsKernel {
  const std::int32_t* indices;  // (rows, top_k)
  std::int64_t* counts;         // (S, E)
  Segments segments;
  std::int64_t rows, top_k, experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t place) const {
    const RowRange range = rows_of_segment(segments, place / experts, rows);
    const auto expert = static_cast<std::int32_t>(place % experts);
    const std::int32_t count =
        group.sum((range.end - range.begin) * top_k,
                  [chosen = indices + range.begin * top_k, expert](std::int64_t i) -> std::int32_t {
                    return chosen[i] == expert ? 1 : 0;
                  });
    group.once([&] { counts[place] = count; });
  }
};

template <class A>
struct ZLossKernel {
  const A* logits;
  A* loss;  // (T)
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A lse =
        group.log_sum_exp(experts, [z = logits + row * experts](std::int64_t i) { return z[i]; }).value();
    group.once([&] { loss[row] = lse * lse; });
  }
};

// d lse^2 / d z_i = 2 lse softmax(z)_i.
template <class A>
struct ZLossBackwardKernel {
  const A* logits;
  A* dlogits;
  A scale;
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* z = logits + row * experts;
    const LogSumExp<A> lse = group.log_sum_exp(experts, [z](std::int64_t i) { return z[i]; });
    const A factor = scale * 2 * lse.value() / lse.sum;
    group.each(experts, [z, dz = dlogits + row * experts, max = lse.max, factor](std::int64_t i) {
      dz[i] += factor * exp_of(z[i] - max);
    });
  }
};

// With n = sum of s: entropy of s / n = log n - (sum of s log s) / n.
template <class A>
struct EntropyKernel {
  const A* scores;
  A* entropy;  // (T)
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* s = scores + row * experts;
    const A scale = score_scale(group, s, experts);
    const A sum = group.sum(experts, [s](std::int64_t i) { return s[i] > 0 ? s[i] * log_of(s[i]) : A(0); });
    group.once([&] { entropy[row] = -log_of(scale) - sum * scale; });
  }
};

}  // namespace jevons
