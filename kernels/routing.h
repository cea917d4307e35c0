// Router of a Mixture-of-Experts layer: scores, choice of experts, balance losses (docs/moe.md). Everything
// is in the accumulator dtype, f32 or f64. Legend: T tokens of this rank, E experts, K chosen, S segments.
#pragma once

#include "kernels/core/context.h"
#include "kernels/core/host_device.h"

namespace jevons {

enum class ScoreFunction { kSoftmax, kSigmoid };
enum class GroupScore { kMax, kSumOfTop2 };

struct RouterRule {
  std::int64_t num_experts = 0;
  std::int64_t top_k = 1;
  ScoreFunction score = ScoreFunction::kSoftmax;
  bool top_k_before_score =
      false;                // choose by logit; softmax weights are then taken over the K chosen logits only
  bool renormalize = true;  // chosen weights sum to 1 (+1e-20), then times scaling_factor
  double scaling_factor = 1;
  std::int64_t groups = 1;  // experts form this many equal groups of neighbours ...
  std::int64_t groups_kept =
      1;  // ... of which the best are eligible (DeepSeek-V3, arXiv:2412.19437, section 2.1.2)
  GroupScore group_score = GroupScore::kSumOfTop2;
  bool operator==(const RouterRule&) const = default;
};

inline constexpr std::int64_t kMaxTopK = 64;
inline constexpr std::int64_t kMaxRouterGroups = 64;

// Throws Error(kUsage) naming the option that does not fit: top_k and groups_kept within range, groups
// dividing num_experts, and the groups kept holding at least top_k experts.
void validate_router_rule(const RouterRule&);

struct RouterOutput {
  Tensor scores;   // (T, E) softmax or sigmoid of the logits
  Tensor indices;  // (T, K) i32, by falling choice score, ties to the lower expert; K different experts
  Tensor weights;  // (T, K) from scores without bias
};
// logits (T, E). The choice score is the score, or the logit with top_k_before_score, plus bias (E), which
// may be undefined; the bias never enters the weights (DeepSeek-V3 eq. 16). A NaN is chosen last: indices
// stay valid.
void router_forward(const Context&, const RouterRule&, Tensor logits, Tensor bias, const RouterOutput&);
// dlogits (T, E) = gradient through weights (d_weights (T, K)) plus through scores (d_scores (T, E) or
// undefined; may be dlogits itself). The choice is constant.
void router_backward(const Context&, const RouterRule&, Tensor d_weights, Tensor d_scores, Tensor logits,
                     const RouterOutput&, Tensor dlogits);

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

// sum (1) f64 += scale * sum over tokens of logsumexp(logits)^2 (ST-MoE, arXiv:2202.08906, eq. 5).
void router_z_loss(const Context&, Tensor logits, double scale, Tensor sum);
// dlogits += scale * gradient of that sum.
void router_z_loss_backward(const Context&, Tensor logits, double scale, Tensor dlogits);
// sum (1) f64 += scale * sum over tokens of the entropy, in nats, of scores / sum of the token's scores: a
// health figure.
void router_entropy(const Context&, Tensor scores, double scale, Tensor sum);

}  // namespace jevons
