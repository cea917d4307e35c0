// Quantile balancing (docs/moe.md): by how much each token fell short of each expert, counted. A token's
// threshold is the largest choice score, score + bias, of the experts that it did not choose; the margin of
// an expert is the threshold minus the token's score there: the expert is chosen where its bias is larger.
// Legend: T tokens of this rank, E experts, K chosen.
#pragma once

#include "kernels/core/context.h"
#include "kernels/core/host_device.h"

namespace jevons {

inline constexpr std::int64_t kMarginBins = 1000;

// Bins of equal width over [smallest bias - 1, largest bias + 1], where all margins of scores in [0, 1] lie.
template <class A>
struct MarginRange {
  A low, width;

  JEVONS_HD static MarginRange of(A smallest_bias, A largest_bias) {
    const A low = smallest_bias - A(1), high = largest_bias + A(1);
    return {low, (high - low) / A(kMarginBins)};
  }
  // NaN and what lies below go to the first bin.
  JEVONS_HD std::int64_t bin(A margin) const {
    const A place = (margin - low) / width;
    if (!(place > A(0))) return 0;
    return place < A(kMarginBins) ? static_cast<std::int64_t>(place) : kMarginBins - 1;
  }
};

// histograms (E, kMarginBins) i64 += one for the margin of each token and expert. scores (T, E), indices (T,
// K) with K < E as router_forward chose them by scores + bias (E). Scratch: work arena.
void margin_counts(const Context&, Tensor scores, Tensor indices, Tensor bias, Tensor histograms);

}  // namespace jevons
