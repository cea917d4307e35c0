// Thresholds of tokens and histograms of margins. A is float or double.
#pragma once

#include "kernels/moe/margins.h"
#include "kernels/moe/routing_row.h"

namespace jevons {

// The choice score that follows those of the chosen in the ranking of the router.
template <class A>
struct ThresholdKernel {
  const A* scores;  // (T, E)
  const A* bias;
  const std::int32_t* indices;  // (T, K)
  A* thresholds;
  std::int64_t experts, top_k;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const auto key = [s = scores + row * experts, b = bias](std::int64_t i) { return nan_last(s[i] + b[i]); };
    const std::int64_t last = indices[row * top_k + top_k - 1];
    const Pick<A> next = next_best(group, 0, experts, Pick<A>{key(last), last}, key);
    group.once([&] { thresholds[row] = next.value; });
  }
};

// One call is one expert, whose tokens one thread counts: no two write the same number.
template <class A>
struct MarginCountsKernel {
  const A* scores;
  const A* bias;
  const A* thresholds;
  std::int64_t* histograms;  // (E, kMarginBins)
  std::int64_t rows, experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t expert) const {
    const A largest = group.max(experts, [b = bias](std::int64_t i) { return b[i]; });
    const A smallest = -group.max(experts, [b = bias](std::int64_t i) { return -b[i]; });
    const auto range = MarginRange<A>::of(smallest, largest);
    group.once([&] {
      std::int64_t* const counts = histograms + expert * kMarginBins;
      for (std::int64_t row = 0; row < rows; ++row)
        ++counts[range.bin(thresholds[row] - scores[row * experts + expert])];
    });
  }
};

}  // namespace jevons

#define JEVONS_MARGINS_KERNELS(X)             \
  JEVONS_FOR_ACCUMULATORS(X, ThresholdKernel) \
  JEVONS_FOR_ACCUMULATORS(X, MarginCountsKernel)
