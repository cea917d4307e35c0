// Heads that become others' and sums of heads.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

// A row is a head of y; x has as many heads or one.
template <class T>
struct CopyHeadsKernel {
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<const T> x;
  Rows<T> y;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t source = x.heads == y.heads ? row : divide(row, y.heads).quotient;
    group.each(y.dim, [from = x[source], to = y[row]](auto i) { move(from, to, i); });
  }
};

// A row is one of the matrix: all heads of x, the one of y.
template <class T>
struct SumHeadsKernel {
  static constexpr bool kShortRows = true;
  Rows<const T> x;
  Rows<T> y;

  std::int64_t width() const { return x.dim; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    using A = accumulator_t<T>;
    group.in_order(
        x.dim, x.heads,
        [first = x.base + row * x.stride, pitch = x.pitch](std::int64_t head, std::int64_t i) {
          return load(first, head * pitch + i);
        },
        [](A sum, A more) { return sum + more; },
        [to = y[row]](std::int64_t i, A sum) { store(to, i, sum); });
  }
};

enum class HeadOrder : std::uint8_t { kToRows, kFromRows };

// A row is a head of the side whose rows are tokens.
template <class T>
struct ReorderHeadsKernel {
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<const T> x;
  Rows<T> y;
  std::int64_t tokens, heads;
  HeadOrder order;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Quotient at = divide(row, heads);
    const std::int64_t by_head = at.remainder * tokens + at.quotient;
    const bool to_rows = order == HeadOrder::kToRows;
    group.each(y.dim, [from = x[to_rows ? row : by_head], to = y[to_rows ? by_head : row]](auto i) {
      move(from, to, i);
    });
  }
};

}  // namespace jevons

#define JEVONS_HEAD_COPY_KERNELS(X)     \
  JEVONS_FOR_FLOATS(X, CopyHeadsKernel) \
  JEVONS_FOR_FLOATS(X, SumHeadsKernel)  \
  JEVONS_FOR_FLOATS(X, ReorderHeadsKernel)
