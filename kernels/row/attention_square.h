// Rows of the square of scores between some queries and the keys before them: their softmax and its gradient,
// for attention by matrix products (kernels/cuda/attention_products.h). Dao et al., arXiv:2307.08691, section
// 2.2, a whole row at a time.
#pragma once

#include <limits>

#include "kernels/positions.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/log_sum_exp.h"
#include "kernels/row/math.h"
#include "kernels/row/pack.h"
#include "kernels/row/scalar.h"

namespace jevons {

// The keys [begin, end) that a query sees.
struct SeenKeys {
  std::int64_t begin, end;

  // `value` of a key that is seen, else `other`.
  template <class A>
  JEVONS_HD A choose(std::int64_t key, A value, A other) const {
    return (key >= begin) & (key < end) ? value : other;
  }
  template <class A, int N>
  JEVONS_HD Pack<A, N> choose(PackIndex<N> keys, const Pack<A, N>& value, A other) const {
    return Pack<A, N>::of([&](int j) { return choose(keys.begin + j, value.lane[j], other); });
  }
};

// Squares of some heads: row h * queries + t is query t of head h, column j is key j.
struct AttentionSquare {
  std::int64_t queries, keys;
  std::int64_t stride;            // elements from a row to the next, at least `keys`
  Positions at;                   // of the queries
  const std::int32_t* doc_start;  // (queries), or null: every query sees from key 0 on

  JEVONS_HD SeenKeys seen(std::int64_t query) const {
    return {doc_start == nullptr ? 0 : doc_start[query], at[query] + 1};
  }
};

// Head h of query t begins at element t * stride + h * pitch.
template <class T>
struct QueryHeads {
  T* base;
  std::int64_t stride, pitch;

  JEVONS_HD T* at(std::int64_t head, std::int64_t query) const {
    return base + query * stride + head * pitch;
  }
};

// p = softmax(scale * scores) over the keys that are seen, 0 elsewhere.
template <class T>
struct AttentionSoftmaxKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<A>;
  AttentionSquare square;
  const A* scores;
  A scale;
  T* p;
  QueryHeads<A> lse;

  std::int64_t width() const { return square.keys; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Quotient at = divide(row, square.queries);
    const SeenKeys seen = square.seen(at.remainder);
    const A* const s = scores + row * square.stride;
    const A log_sum =
        group
            .log_sum_exp(square.keys,
                         [=, scale = scale](auto i) {
                           return seen.choose(i, scale * load(s, i), -std::numeric_limits<A>::infinity());
                         })
            .value();
    group.each(square.keys, [=, scale = scale, out = p + row * square.stride](auto i) {
      store(out, i, seen.choose(i, exp_of(scale * load(s, i) - log_sum), A(0)));
    });
    group.once([&] { *lse.at(at.quotient, at.remainder) = log_sum; });
  }
};

// p again, and the gradient of scores from d_p = d_o v^T: p * (d_p - sum of d_o * o) * scale.
template <class T>
struct AttentionSoftmaxBackwardKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<A>;
  AttentionSquare square;
  const A* scores;
  const A* d_p;
  A scale;
  QueryHeads<const A> lse;
  QueryHeads<const T> o, d_o;  // heads of v_dim
  std::int64_t v_dim;
  T* p;
  T* d_scores;

  std::int64_t width() const { return square.keys; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Quotient at = divide(row, square.queries);
    const SeenKeys seen = square.seen(at.remainder);
    const A delta =
        group.sum(v_dim, [o = o.at(at.quotient, at.remainder), d_o = d_o.at(at.quotient, at.remainder)](
                             auto i) { return load(o, i) * load(d_o, i); });
    const A log_sum = *lse.at(at.quotient, at.remainder);
    const std::int64_t begin = row * square.stride;
    group.each(square.keys, [=, scale = scale, s = scores + begin, dp = d_p + begin, out = p + begin,
                             ds = d_scores + begin](auto i) {
      const auto weight = exp_of(scale * load(s, i) - log_sum);
      store(out, i, seen.choose(i, weight, A(0)));
      store(ds, i, seen.choose(i, weight * (load(dp, i) - delta) * scale, A(0)));
    });
  }
};

// Heads in another dtype. A row is a head of a row of the matrix.
template <class T>
struct RoundHeadsKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<A>;
  static constexpr bool kShortRows = true;
  Rows<const A> x;
  Rows<T> y;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    group.each(y.dim, [from = x[row], to = y[row]](auto i) { store(to, i, load(from, i)); });
  }
};

}  // namespace jevons

#define JEVONS_ATTENTION_SQUARE_KERNELS(X)             \
  JEVONS_FOR_FLOATS(X, AttentionSoftmaxKernel)         \
  JEVONS_FOR_FLOATS(X, AttentionSoftmaxBackwardKernel) \
  JEVONS_FOR_FLOATS(X, RoundHeadsKernel)
