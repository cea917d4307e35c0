// Sums over the tokens of a segment of the router's scores, as shares of the token's sum, and their gradient
// (derivations: docs/moe.md). A is float or double.
#pragma once

#include <cstdint>

#include "kernels/routing.h"
#include "kernels/row/block.h"
#include "kernels/row/reduce.h"

namespace jevons {

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

}  // namespace jevons
