// Attention of single tokens over cached keys and values.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// CachePlaces as a row kernel sees it.
struct PlaceOfRow {
  const std::int32_t* slots;
  const std::int32_t* positions;
  std::int64_t capacity;

  // The row of a cache with position 0 of row b's sequence.
  JEVONS_HD std::int64_t first(std::int64_t b) const { return slots[b] * capacity; }
  JEVONS_HD std::int64_t operator[](std::int64_t b) const { return first(b) + positions[b]; }
  // Positions that row b sees.
  JEVONS_HD std::int64_t length(std::int64_t b) const { return positions[b] + std::int64_t{1}; }
};

// One call is one head of one row.
template <class T>
struct CacheHeadsKernel {
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<const T> x;
  Rows<T> cache;
  PlaceOfRow place;

  std::int64_t width() const { return x.dim; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Quotient at = divide(row, x.heads);
    const T* in = x[row];
    T* out = cache[place[at.quotient] * cache.heads + at.remainder];
    group.each(x.dim, [in, out](auto i) { move(in, out, i); });
  }
};

// One call is one query head of one row: its scores, their softmax, its sum of values. The order of each sum
// depends on the sizes of this row alone.
template <class T>
struct DecodeAttentionKernel {
  using A = accumulator_t<T>;
  Rows<const T> q, k, v;
  Rows<T> o;
  PlaceOfRow place;
  A scale;
  A* scores;  // (rows, heads, capacity)

  std::int64_t width() const { return q.dim; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Quotient at = divide(row, q.heads);
    const std::int64_t first = place.first(at.quotient), n = place.length(at.quotient);
    A* weight = scores + row * place.capacity;
    score(group, row, first * k.heads + at.remainder * k.heads / q.heads, n, weight);
    group.sync();
    const A largest = group.max(n, [weight](std::int64_t p) { return weight[p]; });
    group.each(n, [weight, largest](std::int64_t p) { weight[p] = exp_of(weight[p] - largest); });
    const A sum = group.sum(n, [weight](std::int64_t p) { return weight[p]; });
    group.sync();
    const std::int64_t head = first * v.heads + at.remainder * v.heads / q.heads;
    group.in_order(
        v.dim, n,
        [weight, v = v, head](std::int64_t p, std::int64_t i) {
          return weight[p] * load(v[head + p * v.heads], i);
        },
        [](A a, A b) { return a + b; },
        [out = o[row], sum](std::int64_t i, A value) { store(out, i, value / sum); });
  }

 private:
  // Of the query with the keys at rows head, head + k.heads, ...
  template <class Group>
  JEVONS_HD void score(const Group& group, std::int64_t row, std::int64_t head, std::int64_t n,
                       A* weight) const {
    const T* query = q[row];
    for (std::int64_t p = 0; p < n; ++p) {
      const T* key = k[head + p * k.heads];
      const A dot = group.sum(q.dim, [query, key](std::int64_t i) { return load(query, i) * load(key, i); });
      group.once([=, scale = scale] { weight[p] = dot * scale; });
    }
  }
};

}  // namespace jevons

#define JEVONS_DECODE_ATTENTION_KERNELS(X) \
  JEVONS_FOR_FLOATS(X, CacheHeadsKernel)   \
  JEVONS_FOR_FLOATS(X, DecodeAttentionKernel)
