// What the balance losses of a router are made of: how often experts were chosen, sums of scores, weights and
// values of the losses; the z-loss and the entropy (derivations: docs/moe.md). A is float or double.
#pragma once

#include <cstdint>

#include "kernels/moe/balance.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/reduce.h"
#include "kernels/row/scalar.h"

namespace jevons {

// counts[segment, expert] = how often the rows of the segment chose the expert. One call is one of them and
// reads all indices of its segment: no two calls write the same number, and nothing is added atomically.
// For devices with more threads than that; the CPU counts in one pass (balance.cpp).
struct RoutingCountsKernel {
  const std::int32_t* indices;  // (rows, top_k)
  std::int64_t* counts;         // (S, E)
  Segments segments;
  std::int64_t rows, top_k, experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t place) const {
    const RowRange range = rows_of_segment(segments, place / experts, rows);
    const auto expert = static_cast<std::int32_t>(place % experts);
    const std::int32_t count =
        group.sum((range.end - range.begin) * top_k,
                  [chosen = indices + range.begin * top_k, expert](std::int64_t i) -> std::int32_t {
                    return chosen[i] == expert ? 1 : 0;
                  });
    group.once([&] { counts[place] = count; });
  }
};

// Keeps the share of a token whose scores are all 0 (sigmoids of very negative logits) finite.
template <class A>
inline constexpr A kScoreEpsilon = A(1e-20);

// 1 / sum of the token's scores.
template <class Group, class A>
JEVONS_HD A score_scale(const Group& group, const A* s, std::int64_t experts) {
  return A(1) / (group.sum(experts, [s](std::int64_t i) { return s[i]; }) + kScoreEpsilon<A>);
}

template <class A>
struct ScoreScaleKernel {
  const A* scores;
  A* scale;  // (T)
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A value = score_scale(group, scores + row * experts, experts);
    group.once([&] { scale[row] = value; });
  }
};

// One call adds up one block of experts over one part of a segment, in row order. Parts have part_rows rows;
// those that this rank does not hold add nothing.
template <class A>
struct ScoreSumsKernel {
  const A* scores;  // (T, E)
  const A* scale;   // (T)
  A* sums;          // (S, parts of a segment, E)
  Segments segments;
  std::int64_t part_rows, rows, experts;

  std::int64_t width() const { return kColumnBlock; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Quotient at = divide(index, blocks_of(experts, kColumnBlock));
    const Block block = block_at(at.remainder, experts, kColumnBlock);
    A* out = sums + at.quotient * experts + block.begin;
    group.each(block.size, [out](std::int64_t i) { out[i] = 0; });
    const RowRange range = rows_of_part(at.quotient);
    std::int64_t row = range.begin;
    for (; row + kRowsAtOnce <= range.end; row += kRowsAtOnce) sum<kRowsAtOnce>(group, block, row, out);
    for (; row < range.end; ++row) sum<1>(group, block, row, out);
  }

 private:
  JEVONS_HD RowRange rows_of_part(std::int64_t part) const {
    const Quotient at = divide(part, blocks_of(segments.segment_len, part_rows));
    const Block block = block_at(at.remainder, segments.segment_len, part_rows);
    const std::int64_t first = at.quotient * segments.segment_len - segments.first_row + block.begin;
    const std::int64_t last = first + block.size;
    return {first < 0 ? 0 : first, last > rows ? rows : last};
  }

  template <std::int64_t kRows, class Group>
  JEVONS_HD void sum(const Group& group, const Block& block, std::int64_t row, A* out) const {
    group.each(block.size, [out, s = scores + row * experts + block.begin, scale = scale + row,
                            experts = experts](std::int64_t i) {
      A total = out[i];
      for (std::int64_t r = 0; r < kRows; ++r) total += s[r * experts + i] * scale[r];
      out[i] = total;
    });
  }
};

// With n = sum of s: d(sum_j c_j s_j / n) / d s_i = (c_i - sum_j c_j s_j / n) / n.
template <class A>
struct ScoreSumsBackwardKernel {
  const A* scores;
  const A* coefficient;  // (S, E)
  A* d_scores;
  Segments segments;
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* s = scores + row * experts;
    const A* c = coefficient + (segments.first_row + row) / segments.segment_len * experts;
    const A scale = score_scale(group, s, experts);
    const A mean = group.sum(experts, [c, s](std::int64_t i) { return c[i] * s[i]; }) * scale;
    group.each(experts, [c, ds = d_scores + row * experts, mean, scale](std::int64_t i) {
      ds[i] = (c[i] - mean) * scale;
    });
  }
};

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

template <class A>
struct ZLossKernel {
  const A* logits;
  A* loss;  // (T)
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A lse =
        group.log_sum_exp(experts, [z = logits + row * experts](std::int64_t i) { return z[i]; }).value();
    group.once([&] { loss[row] = lse * lse; });
  }
};

// d lse^2 / d z_i = 2 lse softmax(z)_i.
template <class A>
struct ZLossBackwardKernel {
  const A* logits;
  A* dlogits;
  A scale;
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* z = logits + row * experts;
    const LogSumExp<A> lse = group.log_sum_exp(experts, [z](std::int64_t i) { return z[i]; });
    const A factor = scale * 2 * lse.value() / lse.sum;
    group.each(experts, [z, dz = dlogits + row * experts, max = lse.max, factor](std::int64_t i) {
      dz[i] += factor * exp_of(z[i] - max);
    });
  }
};

// With n = sum of s: entropy of s / n = log n - (sum of s log s) / n.
template <class A>
struct EntropyKernel {
  const A* scores;
  A* entropy;  // (T)
  std::int64_t experts;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const A* s = scores + row * experts;
    const A scale = score_scale(group, s, experts);
    const A sum = group.sum(experts, [s](std::int64_t i) { return s[i] > 0 ? s[i] * log_of(s[i]) : A(0); });
    group.once([&] { entropy[row] = -log_of(scale) - sum * scale; });
  }
};

}  // namespace jevons

#define JEVONS_BALANCE_KERNELS(X)                     \
  X(RoutingCountsKernel)                              \
  JEVONS_FOR_ACCUMULATORS(X, ScoreScaleKernel)        \
  JEVONS_FOR_ACCUMULATORS(X, ScoreSumsKernel)         \
  JEVONS_FOR_ACCUMULATORS(X, ScoreSumsBackwardKernel) \
  JEVONS_FOR_ACCUMULATORS(X, BalanceWeightsKernel)    \
  JEVONS_FOR_ACCUMULATORS(X, ZLossKernel)             \
  JEVONS_FOR_ACCUMULATORS(X, ZLossBackwardKernel)     \
  JEVONS_FOR_ACCUMULATORS(X, EntropyKernel)
