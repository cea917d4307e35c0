// Router of a Mixture-of-Experts layer: scores, choice of experts, weights (docs/moe.md). Everything is in
// the accumulator dtype, f32 or f64. Legend: T tokens of this rank, E experts, K chosen.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

enum class ScoreFunction { kSoftmax, kSigmoid, kSqrtSoftplus };
enum class GroupScore { kMax, kSumOfTop2 };

struct RouterRule {
  std::int64_t num_experts = 0;
  std::int64_t top_k = 1;
  ScoreFunction score = ScoreFunction::kSoftmax;
  // Choose by logit; softmax weights are then taken over the K chosen logits only.
  bool top_k_before_score = false;
  bool renormalize = true;  // chosen weights sum to 1 (+1e-20), then times scaling_factor
  double scaling_factor = 1;
  // Experts form this many equal groups of neighbours, of which the best are eligible (DeepSeek-V3,
  // arXiv:2412.19437, section 2.1.2).
  std::int64_t groups = 1, groups_kept = 1;
  GroupScore group_score = GroupScore::kSumOfTop2;
  // For benchmarks: row t takes experts (t + k E / K) mod E, whatever the scores are. Over E rows every
  // expert is taken K times, and a row's experts lie as far apart as can be.
  bool forced_balance = false;
  bool operator==(const RouterRule&) const = default;
};

inline constexpr std::int64_t kMaxTopK = 64;
inline constexpr std::int64_t kMaxRouterGroups = 64;

struct RouterOutput {
  Tensor scores;   // (T, E) of the logits
  Tensor indices;  // (T, K) i32, by falling choice score, ties to the lower expert; K different experts
  Tensor weights;  // (T, K) from scores without bias
};
// logits (T, E). The choice score is the score, or the logit with top_k_before_score, plus bias (E), which
// may be undefined; the bias never enters the weights (DeepSeek-V3 eq. 16). A NaN is chosen last: indices
// stay valid.
void router_forward(const Context&, const RouterRule&, Tensor logits, Tensor bias, const RouterOutput&);
// Gradients of the call's results and of its logits.
struct RouterGrads {
  Tensor d_weights;  // (T, K)
  Tensor d_scores;   // (T, E) or undefined; may be dlogits itself
  Tensor dlogits;    // (T, E), written: the gradient through the weights plus that through the scores
};
// The choice is constant.
void router_backward(const Context&, const RouterRule&, Tensor logits, const RouterOutput&,
                     const RouterGrads&);

}  // namespace jevons
