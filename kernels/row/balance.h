// Weights and values of the balance losses from counts and score sums (docs/moe.md). A is float or double.
#pragma once

#include <cstdint>

#include "kernels/balance.h"
#include "kernels/row/block.h"
#include "kernels/row/scalar.h"

namespace jevons {

inline constexpr std::int64_t kBalanceLosses = 3;  // micro-batch, sequence, global

// One call is a segment s: coefficient[s] (E), and losses[s] = {micro-batch, sequence, global}.
template <class A>
struct BalanceWeightsKernel {
  const std::int64_t* counts;       // (S, E)
  const std::int64_t* micro_batch;  // (E)
  const std::int64_t* global;       // (E)
  const A* score_sums;              // (S, E)
  A* coefficient;                   // (S, E)
  double* losses;                   // (S, kBalanceLosses)
  BalanceFactors factors;
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t segment) const {
    const std::int64_t* sequence = counts + segment * experts;
    const A* p = score_sums + segment * experts;
    const double f_micro_batch = factor(group, micro_batch), f_sequence = factor(group, sequence),
                 f_global = factor(group, global);
    const BalanceFactors w = factors;
    group.each(experts, [=, *this, out = coefficient + segment * experts](std::int64_t i) {
      out[i] =
          static_cast<A>(w.per_row * (w.micro_batch * (f_micro_batch * static_cast<double>(micro_batch[i])) +
                                      w.global * (f_global * static_cast<double>(global[i]))) +
                         w.per_sequence_row * w.sequence * (f_sequence * static_cast<double>(sequence[i])));
    });
    const auto value = [&](double scale, const std::int64_t* load) {
      return scale * group.sum(experts, [=](std::int64_t i) {
        return static_cast<double>(load[i]) * static_cast<double>(p[i]);
      });
    };
    const double of_micro_batch = value(w.per_row * f_micro_batch, micro_batch),
                 of_sequence = value(w.per_sequence_row * f_sequence, sequence),
                 of_global = value(w.per_row * f_global, global);
    group.once([&] {
      double* out = losses + segment * kBalanceLosses;
      out[0] = of_micro_batch, out[1] = of_sequence, out[2] = of_global;
    });
  }

 private:
  // With it a count is E * count / slots: 1 for every expert at perfect balance. 0 without slots.
  template <class Group>
  JEVONS_HD double factor(const Group& group, const std::int64_t* load) const {
    const double slots = group.sum(experts, [=](std::int64_t i) { return static_cast<double>(load[i]); });
    return slots > 0 ? static_cast<double>(experts) / slots : 0;
  }
};

}  // namespace jevons
