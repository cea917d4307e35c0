// The router, one token per call: scores, choice of experts, weights, and their gradient (rules and
// derivation: docs/moe.md). A is float or double.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/moe/routing.h"
#include "kernels/row/instances.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/pick.h"

namespace jevons {

template <class A>
JEVONS_HD A nan_last(A value) {
  return value == value ? value : -std::numeric_limits<A>::infinity();
}

// The entry that follows `previous` in the ranking of key(begin) .. key(begin + n - 1). No list of what was
// taken is needed: an entry is still free if it ranks below the last one taken.
template <class Group, class A, class Key>
JEVONS_HD Pick<A> next_best(const Group& group, std::int64_t begin, std::int64_t n, Pick<A> previous,
                            Key key) {
  const auto free = [=](std::int64_t i) {
    const A value = key(begin + i);
    return (value < previous.value) | ((value == previous.value) & (begin + i > previous.index));
  };
  const Pick<A> best = group.best(n, free, [=](std::int64_t i) { return key(begin + i); });
  return {best.value, best.index < 0 ? -1 : begin + best.index};
}

// What is left of a RouterRule in a kernel.
template <class A>
struct RouterShape {
  explicit RouterShape(const RouterRule& rule)
      : experts(rule.num_experts),
        top_k(rule.top_k),
        groups(rule.groups),
        groups_kept(rule.groups_kept),
        group_size(rule.num_experts / rule.groups),
        score(rule.score),
        forced(rule.forced_balance),
        by_logit(rule.top_k_before_score),
        renormalize(rule.renormalize),
        sum_of_top2(rule.group_score == GroupScore::kSumOfTop2),
        scaling_factor(static_cast<A>(rule.scaling_factor)) {}
  JEVONS_HD bool is_softmax() const { return score == ScoreFunction::kSoftmax; }
  // Weights are a softmax of their own, over the chosen logits.
  JEVONS_HD bool softmax_of_chosen() const { return by_logit && is_softmax(); }

  std::int64_t experts, top_k, groups, groups_kept, group_size;
  ScoreFunction score;
  bool forced, by_logit, renormalize, sum_of_top2;
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
  static constexpr bool kManyRegisters = true;

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
    if (rule.forced) {
      group.once([&] {
        for (std::int64_t k = 0; k < rule.top_k; ++k)
          chosen[k] = static_cast<std::int32_t>((row + k * rule.experts / rule.top_k) % rule.experts);
      });
    } else if (bias == nullptr) {
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
    if (rule.score == ScoreFunction::kSigmoid) {
      group.each(rule.experts, [z, s](std::int64_t i) { s[i] = sigmoid(z[i]); });
      return;
    }
    if (rule.score == ScoreFunction::kSqrtSoftplus) {
      group.each(rule.experts, [z, s](std::int64_t i) { s[i] = sqrt_of(softplus(z[i])); });
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

// Gradient of scores and weights; the choice is constant.
template <class A>
struct RouterBackwardKernel {
  static constexpr bool kManyRegisters = true;
  RouterShape<A> rule;
  const A* d_weights;  // (T, K)
  const A* d_scores;   // (T, E) or null; may be dlogits
  const A* logits;
  const A* scores;
  const std::int32_t* indices;
  A* dlogits;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t begin = row * rule.experts;
    const A* z = logits + begin;
    const A* s = scores + begin;
    const A* ds = d_scores == nullptr ? nullptr : d_scores + begin;
    const std::int32_t* chosen = indices + row * rule.top_k;
    A d_raw[kMaxTopK];  // gradient of the weights before renormalisation
    weight_gradient(z, s, chosen, d_weights + row * rule.top_k, d_raw);

    A* dz = dlogits + begin;
    A dot = 0;  // softmax: sum of score * its gradient
    if (rule.is_softmax() && ds != nullptr) {
      dot = group.sum(rule.experts, [s, ds](std::int64_t i) { return s[i] * ds[i]; });
    }
    if (rule.is_softmax() && !rule.by_logit) {
      for (std::int64_t k = 0; k < rule.top_k; ++k) dot += s[chosen[k]] * d_raw[k];
    }
    const bool is_sigmoid = rule.score == ScoreFunction::kSigmoid;
    if (rule.score == ScoreFunction::kSqrtSoftplus) {
      group.each(rule.experts,
                 [=](std::int64_t i) { dz[i] = ds == nullptr ? A(0) : root_slope(z[i], s[i]) * ds[i]; });
    } else {
      group.each(rule.experts, [=](std::int64_t i) {
        const A d = ds == nullptr ? A(0) : ds[i];
        dz[i] = is_sigmoid ? s[i] * (A(1) - s[i]) * d : s[i] * (d - dot);
      });
    }
    group.sync();
    group.once([&] {
      for (std::int64_t k = 0; k < rule.top_k; ++k) {
        const std::int64_t i = chosen[k];
        dz[i] += slope(z[i], s[i]) * d_raw[k];
      }
    });
  }

 private:
  // d score / d logit of the same expert, without the part that softmax spreads over all; 1 where d_raw is
  // already the gradient of the logit.
  JEVONS_HD A slope(A z, A s) const {
    if (rule.softmax_of_chosen()) return A(1);
    if (rule.score == ScoreFunction::kSqrtSoftplus) return root_slope(z, s);
    return rule.score == ScoreFunction::kSigmoid ? s * (A(1) - s) : s;
  }

  // Of s = sqrt(softplus(z)): sigmoid(z) / (2 s), which goes to 0 with s.
  JEVONS_HD static A root_slope(A z, A s) { return s > A(0) ? sigmoid(z) / (s + s) : A(0); }

  JEVONS_HD void weight_gradient(const A* z, const A* s, const std::int32_t* chosen, const A* dw,
                                 A* d_raw) const {
    A raw[kMaxTopK];
    chosen_weights(rule, z, s, chosen, raw);
    A total = kRenormalizeEpsilon<A>, along = 0;
    for (std::int64_t k = 0; k < rule.top_k; ++k) total += raw[k], along += dw[k] * raw[k];
    const A scale = rule.renormalize ? rule.scaling_factor / total : rule.scaling_factor;
    const A shift = rule.renormalize ? along / total : A(0);
    for (std::int64_t k = 0; k < rule.top_k; ++k) d_raw[k] = scale * (dw[k] - shift);
    if (!rule.softmax_of_chosen()) return;
    A dot = 0;
    for (std::int64_t k = 0; k < rule.top_k; ++k) dot += d_raw[k] * raw[k];
    for (std::int64_t k = 0; k < rule.top_k; ++k) d_raw[k] = raw[k] * (d_raw[k] - dot);
  }
};

}  // namespace jevons

#define JEVONS_ROUTING_KERNELS(X)          \
  JEVONS_FOR_ACCUMULATORS(X, RouterKernel) \
  JEVONS_FOR_ACCUMULATORS(X, RouterBackwardKernel)
