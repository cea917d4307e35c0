// What the balance losses of a router need of its counts and score sums, without the host (docs/moe.md).
// Legend: S segments (the sequences of a micro-batch), E experts.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// total (E) i64 += sum over segments of counts (S, E) i64.
void add_counts(const Context&, Tensor counts, Tensor total);

// Slots of every expert, i64.
struct BalanceLoads {
  Tensor sequence;     // (S, E)
  Tensor micro_batch;  // (E) sum of these
  Tensor global;       // (E) of all ranks in the step so far
};
struct BalanceFactors {
  double per_row = 0, per_sequence_row = 0;          // of a row in the mean of a loss
  double micro_batch = 0, sequence = 0, global = 0;  // coefficients of the losses
};
// coefficient (S, E) = gradient of all losses with respect to score_sums (S, E); values (3) f64 +=
// {micro-batch, sequence, global} loss without its coefficient. A load enters as E times its share of the
// slots.
void balance_weights(const Context&, const BalanceLoads&, const BalanceFactors&, Tensor score_sums,
                     Tensor coefficient, Tensor values);

}  // namespace jevons
