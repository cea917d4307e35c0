// Logsumexp of a row.
#pragma once

#include <cstdint>

#include "kernels/row/math.h"

namespace jevons {

// log of the sum of exp(z), as its two parts.
template <class A>
struct LogSumExp {
  A max, sum;  // sum of exp(z - max)
  JEVONS_HD A value() const { return max + log_of(sum); }
};

template <class Group, class A>
JEVONS_HD LogSumExp<A> log_sum_exp(const Group& group, const A* z, std::int64_t n) {
  const A max = group.max(n, [z](std::int64_t i) { return z[i]; });
  return {max, group.sum(n, [z, max](std::int64_t i) { return exp_of(z[i] - max); })};
}

}  // namespace jevons
