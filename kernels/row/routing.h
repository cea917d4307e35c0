// The router, one token per call: scores, choice of experts, weights (rules: docs/moe.md). A is float or
// double.
#pragma once

#include <cstdint>

#include "kernels/routing.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/ranking.h"

namespace jevons {

// What is left of a RouterRule in a kernel.
template <class A>
struct RouterShape {
  explicit RouterShape(const RouterRule& rule)
      : experts(rule.num_experts),
        top_k(rule.top_k),
        groups(rule.groups),
        groups_kept(rule.groups_kept),
        group_size(rule.num_experts / rule.groups),
        sigmoid(rule.score == ScoreFunction::kSigmoid),
        by_logit(rule.top_k_before_score),
        renormalize(rule.renormalize),
        sum_of_top2(rule.group_score == GroupScore::kSumOfTop2),
        scaling_factor(static_cast<A>(rule.scaling_factor)) {}
  // Weights are a softmax of their own, over the chosen logits.
  JEVONS_HD bool softmax_of_chosen() const { return by_logit && !sigmoid; }

  std::int64_t experts, top_k, groups, groups_kept, group_size;
  bool sigmoid, by_logit, renormalize, sum_of_top2;
  A scaling_factor;
};

template <class A>
inline constexpr A kRenormalizeEpsilon = A(1e-20);

// The weights (K) before renormalisation and scaling.
template <class A>
JEVONS_HD void chosen_weights(const RouterShape<A>& rule, const A* z, const A* s, const std::int32_t* chosen,
                              A* raw) {
  if (!rule.softmax_of_chosen()) {
    for (std::int64_t k = 0; k < rule.top_k; ++k) raw[k] = s[chosen[k]];
    return;
  }
  A max = z[chosen[0]], sum = 0;
  for (std::int64_t k = 1; k < rule.top_k; ++k) max = z[chosen[k]] > max ? z[chosen[k]] : max;
  for (std::int64_t k = 0; k < rule.top_k; ++k) sum += raw[k] = exp_of(z[chosen[k]] - max);
  for (std::int64_t k = 0; k < rule.top_k; ++k) raw[k] /= sum;
}

template <class A>
struct RouterKernel {
  RouterShape<A> rule;
  const A* logits;  // (T, E)
  const A* bias;    // (E) or null
  A* scores;        // (T, E)
  std::int32_t* indices;
  A* weights;
  static constexpr bool kShortRows = true;

  // A thread ranks some experts by itself: it is cheaper than to compare with its neighbours.
  std::int64_t width() const { return rule.experts / 8; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* z = logits + row * rule.experts;
    A* s = scores + row * rule.experts;
    score(group, z, s);
    group.sync();  // the choice and the weights read scores that other threads wrote
    const A* choice = rule.by_logit ? z : s;
    std::int32_t* chosen = indices + row * rule.top_k;
    if (bias == nullptr) {
      choose(
          group, [choice](std::int64_t i) { return nan_last(choice[i]); }, chosen);
    } else {
      choose(
          group, [choice, b = bias](std::int64_t i) { return nan_last(choice[i] + b[i]); }, chosen);
    }
    group.once([&] { weigh(z, s, chosen, weights + row * rule.top_k); });
  }

 private:
  template <class Group>
  JEVONS_HD void score(const Group& group, const A* z, A* s) const {
    if (rule.sigmoid) {
      group.each(rule.experts, [z, s](std::int64_t i) { s[i] = sigmoid(z[i]); });
      return;
    }
    const LogSumExp<A> lse = group.log_sum_exp(rule.experts, [z](std::int64_t i) { return z[i]; });
    const A scale = A(1) / lse.sum;
    group.each(rule.experts, [z, s, m = lse.max, scale](std::int64_t i) { s[i] = exp_of(z[i] - m) * scale; });
  }

  template <class Group, class Key>
  JEVONS_HD void choose(const Group& group, Key key, std::int32_t* chosen) const {
    const std::int64_t size = rule.group_size;
    const std::uint64_t kept = rule.groups_kept < rule.groups ? keep_groups(group, key) : ~std::uint64_t{0};
    Pick<A> last = kBeforeAll<A>;
    for (std::int64_t k = 0; k < rule.top_k; ++k) {
      Pick<A> best{0, -1};
      for (std::int64_t g = 0; g < rule.groups; ++g) {
        if ((kept >> g & 1) == 0) continue;
        const Pick<A> pick = next_best(group, g * size, size, last, key);
        if (pick.index >= 0 && (best.index < 0 || pick.value > best.value)) best = pick;
      }
      group.once([&] { chosen[k] = static_cast<std::int32_t>(best.index); });
      last = best;
    }
  }

  // Bit g: group g is among the best groups_kept.
  template <class Group, class Key>
  JEVONS_HD std::uint64_t keep_groups(const Group& group, Key key) const {
    const std::int64_t size = rule.group_size;
    A value[kMaxRouterGroups];
    for (std::int64_t g = 0; g < rule.groups; ++g) {
      const Pick<A> first = next_best(group, g * size, size, kBeforeAll<A>, key);
      value[g] = first.value;
      if (rule.sum_of_top2 && size > 1) value[g] += next_best(group, g * size, size, first, key).value;
      value[g] = nan_last(value[g]);
    }
    std::uint64_t kept = 0;
    for (std::int64_t n = 0; n < rule.groups_kept; ++n) {
      std::int64_t best = -1;
      for (std::int64_t g = 0; g < rule.groups; ++g) {
        if ((kept >> g & 1) == 0 && (best < 0 || value[g] > value[best])) best = g;
      }
      kept |= std::uint64_t{1} << best;
    }
    return kept;
  }

  JEVONS_HD void weigh(const A* z, const A* s, const std::int32_t* chosen, A* weight) const {
    chosen_weights(rule, z, s, chosen, weight);
    A total = kRenormalizeEpsilon<A>;
    for (std::int64_t k = 0; k < rule.top_k; ++k) total += weight[k];
    const A scale = rule.renormalize ? rule.scaling_factor / total : rule.scaling_factor;
    for (std::int64_t k = 0; k < rule.top_k; ++k) weight[k] *= scale;
  }
};

}  // namespace jevons
