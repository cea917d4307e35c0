// Logsumexp of a row.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/row/math.h"

namespace jevons {

// What is subtracted before exp. A row without a finite number keeps its -infinity, whose exp is 0, not NaN.
template <class A>
JEVONS_HD A shift_of(A maximum) {
  return maximum == -std::numeric_limits<A>::infinity() ? A(0) : maximum;
}

// log of the sum of exp(z), as its two parts.
template <class A>
struct LogSumExp {
  A max, sum;  // sum of exp(z - shift_of(max))
  JEVONS_HD A value() const { return max + log_of(sum); }
};

}  // namespace jevons
