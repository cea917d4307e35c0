// What keeps a router balanced and healthy, without the host: loads of the experts, sums of its scores,
// losses of the balance, z-loss, entropy (docs/moe.md). Scores and logits are f32 or f64. Legend: T tokens of
// this rank, E experts, K chosen, S segments (the sequences of a micro-batch).
#pragma once

#include "kernels/core/context.h"
#include "kernels/core/host_device.h"

namespace jevons {

// Rows of a micro-batch in segments of equal length: its sequences, or all of it as one. A rank may hold any
// run of its rows, and its borders may cut a segment: row r of the rank is row first_row + r of the
// micro-batch.
struct Segments {
  std::int64_t first_row = 0;
  std::int64_t segment_len = 1;
  std::int64_t count = 1;  // S: segments of the whole micro-batch
};

// This rank's rows of one segment, out of its `rows`: [begin, end), empty if it holds none.
struct RowRange {
  std::int64_t begin, end;
};
JEVONS_HD constexpr RowRange rows_of_segment(const Segments& segments, std::int64_t segment,
                                             std::int64_t rows) {
  const std::int64_t first = segment * segments.segment_len - segments.first_row;
  const std::int64_t last = first + segments.segment_len;
  const std::int64_t begin = first < 0 ? 0 : first, end = last > rows ? rows : last;
  return {begin, end < begin ? begin : end};
}

// counts (S, E) i64: how often each expert was chosen by this rank's tokens of each segment.
void routing_counts(const Context&, Tensor indices, const Segments&, Tensor counts);
// sums (S, E): over this rank's tokens of the segment, in row order, of scores / sum of the token's scores.
void score_sums(const Context&, Tensor scores, const Segments&, Tensor sums);
// d_scores (T, E) = gradient of the sum over segments and experts of coefficient (S, E) * score_sums.
void score_sums_backward(const Context&, Tensor scores, const Segments&, Tensor coefficient, Tensor d_scores);

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

// sum (1) f64 += scale * sum over tokens of logsumexp(logits)^2 (ST-MoE, arXiv:2202.08906, eq. 5).
void router_z_loss(const Context&, Tensor logits, double scale, Tensor sum);
// dlogits += scale * gradient of that sum.
void router_z_loss_backward(const Context&, Tensor logits, double scale, Tensor dlogits);
// sum (1) f64 += scale * sum over tokens of the entropy, in nats, of scores / sum of the token's scores: a
// health figure.
void router_entropy(const Context&, Tensor scores, double scale, Tensor sum);

}  // namespace jevons
