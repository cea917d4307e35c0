// Gradient of the router's scores and weights, one token per call; the choice is constant (derivation:
// docs/moe.md).
#pragma once

#include "kernels/row/routing.h"

namespace jevons {

template <class A>
struct RouterBackwardKernel {
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
    if (!rule.sigmoid && ds != nullptr) {
      dot = group.sum(rule.experts, [s, ds](std::int64_t i) { return s[i] * ds[i]; });
    }
    if (!rule.sigmoid && !rule.by_logit) {
      for (std::int64_t k = 0; k < rule.top_k; ++k) dot += s[chosen[k]] * d_raw[k];
    }
    const bool is_sigmoid = rule.sigmoid;
    group.each(rule.experts, [=](std::int64_t i) {
      const A d = ds == nullptr ? A(0) : ds[i];
      dz[i] = is_sigmoid ? s[i] * (A(1) - s[i]) * d : s[i] * (d - dot);
    });
    group.sync();
    group.once([&] {
      for (std::int64_t k = 0; k < rule.top_k; ++k) dz[chosen[k]] += slope(s[chosen[k]]) * d_raw[k];
    });
  }

 private:
  // d score / d logit of the same expert, without the part that softmax spreads over all; 1 where d_raw is
  // already the gradient of the logit.
  JEVONS_HD A slope(A s) const {
    if (rule.softmax_of_chosen()) return A(1);
    return rule.sigmoid ? s * (A(1) - s) : s;
  }

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
