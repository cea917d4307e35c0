// Softmax cross-entropy over a slice of the vocabulary (derivation: docs/kernels-row.md).
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// stats (rows, 3) = {max, sum exp(x - max), x[target] or 0}.
template <class T>
struct CrossEntropyStatsKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  const T* logits;  // (rows, cols)
  const std::int32_t* targets;
  A* stats;
  std::int64_t cols, vocab_begin;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const T* x = logits + row * cols;
    const LogSumExp<A> lse = group.log_sum_exp(cols, [x](auto i) { return load(x, i); });
    group.once([&] {
      const std::int64_t target = targets[row] - vocab_begin;
      A* out = stats + row * 3;
      out[0] = lse.max;
      out[1] = lse.sum;
      out[2] = targets[row] >= 0 && target >= 0 && target < cols ? load(x, target) : A(0);
    });
  }
};

// Joins the statistics of all parts of the vocabulary; each call works on one block of rows.
template <class A>
struct CrossEntropyCombineKernel {
  const A* gathered;  // (parts, rows, 3)
  const std::int32_t* targets;
  A* loss;
  A* lse;
  std::int64_t parts, rows;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows);
    group.each(block.size, [=, *this](std::int64_t i) {
      const std::int64_t row = block.begin + i;
      A maximum = gathered[row * 3];
      for (std::int64_t p = 1; p < parts; ++p) {
        const A other = gathered[(p * rows + row) * 3];
        maximum = other > maximum ? other : maximum;
      }
      const A shift = shift_of(maximum);
      A sum = 0, target = 0;
      for (std::int64_t p = 0; p < parts; ++p) {
        const A* part = gathered + (p * rows + row) * 3;
        sum += part[1] * exp_of(part[0] - shift);
        target += part[2];
      }
      lse[row] = shift + log_of(sum);
      loss[row] = targets[row] < 0 ? A(0) : lse[row] - target;
    });
  }
};

// dlogits = scale * (exp(x - lse) - onehot), 0 where the target is masked. dlogits may be logits.
template <class T>
struct CrossEntropyBackwardKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  const T* logits;  // (rows, cols)
  const std::int32_t* targets;
  const A* lse;
  T* dlogits;
  std::int64_t cols, vocab_begin;
  A scale;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    T* out = dlogits + row * cols;
    if (targets[row] < 0) {
      group.each(cols, [out](auto i) { clear(out, i); });
      return;
    }
    const auto target = static_cast<std::int32_t>(targets[row] - vocab_begin);
    group.each(cols, [x = logits + row * cols, out, shift = lse[row], target, scale = scale](auto i) {
      store(out, i, scale * (exp_of(load(x, i) - shift) - indicator<A>(i, target)));
    });
  }
};

}  // namespace jevons

#define JEVONS_CROSS_ENTROPY_KERNELS(X)                 \
  JEVONS_FOR_FLOATS(X, CrossEntropyStatsKernel)         \
  JEVONS_FOR_ACCUMULATORS(X, CrossEntropyCombineKernel) \
  JEVONS_FOR_FLOATS(X, CrossEntropyBackwardKernel)
