// The order of rows that are dealt out in stripes.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/scalar.h"

namespace jevons {

struct StripeOrderKernel {
  std::int32_t* dealt;
  std::int32_t* joined;
  std::int64_t rows, length, parts, run;

  JEVONS_HD std::int64_t place(std::int64_t row) const {
    const Quotient sequence = divide(row, length);
    const Quotient stripe = divide(sequence.remainder, run);
    const Quotient turn = divide(stripe.quotient, parts);  // its remainder is the part
    const std::int64_t local = turn.quotient * run + stripe.remainder;
    return turn.remainder * (rows / parts) + sequence.quotient * (length / parts) + local;
  }
  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows);
    group.each(block.size, [=, *this](std::int64_t i) {
      const std::int64_t row = block.begin + i, to = place(row);
      joined[row] = static_cast<std::int32_t>(to);
      dealt[to] = static_cast<std::int32_t>(row);
    });
  }
};

}  // namespace jevons

#define JEVONS_STRIPE_KERNELS(X) X(StripeOrderKernel)
