// RMSNorm forward and backward (derivation: docs/kernels-row.md).
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// (mean(x^2) + eps)^-1/2 over n elements of x.
template <class Group, class T, class A>
JEVONS_HD A inverse_rms(const Group& group, const T* x, std::int64_t n, A eps) {
  const A squares = group.sum(n, [x](auto i) { return load(x, i) * load(x, i); });
  return A(1) / sqrt_of(squares / static_cast<A>(n) + eps);
}

template <class T>
struct RmsNormKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<const T> x;
  const A* w;  // (dim)
  Rows<T> y;
  A* rstd;  // one per row
  A eps;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const T* in = x[row];
    const A r = inverse_rms(group, in, x.dim, eps);
    group.once([&] { rstd[row] = r; });
    group.each(x.dim, [in, out = y[row], w = w, r](auto i) { store(out, i, load(in, i) * r * load(w, i)); });
  }
};

// h = a + b, then the norm of h as stored, so that the result equals the two ops run one after the other.
template <class T>
struct AddRmsNormKernel {
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = RmsNormKernel<T>::kShortRows;  // the same group, hence the same bits
  const T* a;
  const T* b;
  T* h;
  RmsNormKernel<T> norm;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t begin = row * norm.x.dim;
    group.each(norm.x.dim, [a = a + begin, b = b + begin, h = h + begin](auto i) {
      store(h, i, load(a, i) + load(b, i));
    });
    norm(group, row);
  }
};

// One call is a block of rows: their dx, and the block's part of dw. dx may be dy, x or the residual: each
// element is read before it is written.
template <class T>
struct RmsNormBackwardKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<const T> dy, x;
  const A* w;
  const A* rstd;
  Rows<const T> residual;  // base null: none
  Rows<T> dx;
  A* partial_dw;  // (blocks, dim)
  std::int64_t rows, row_block;

  std::int64_t width() const { return x.dim; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows, row_block);
    A* dw = partial_dw + index * x.dim;
    group.each(x.dim, [dw](auto i) { clear(dw, i); });
    for (std::int64_t row = block.begin; row < block.begin + block.size; ++row) one_row(group, row, dw);
  }

 private:
  template <class Group>
  JEVONS_HD void one_row(const Group& group, std::int64_t row, A* dw) const {
    const T* g = dy[row];
    const T* in = x[row];
    const A r = rstd[row];
    const A dot = group.sum(x.dim, [g, in, w = w](auto i) { return load(g, i) * load(w, i) * load(in, i); });
    const A along_x = r * r * dot / static_cast<A>(x.dim);
    // Adds to dw and returns the gradient through the norm.
    const auto through = [g, in, w = w, dw, r, along_x](auto i) {
      store(dw, i, load(dw, i) + load(g, i) * load(in, i) * r);
      return r * (load(g, i) * load(w, i) - load(in, i) * along_x);
    };
    T* out = dx[row];
    if (residual.base == nullptr) {
      group.each(x.dim, [=](auto i) { store(out, i, through(i)); });
    } else {
      const T* past = residual[row];
      group.each(x.dim, [=](auto i) { store(out, i, load(past, i) + through(i)); });
    }
  }
};

}  // namespace jevons

#define JEVONS_NORM_KERNELS(X)           \
  JEVONS_FOR_FLOATS(X, RmsNormKernel)    \
  JEVONS_FOR_FLOATS(X, AddRmsNormKernel) \
  JEVONS_FOR_FLOATS(X, RmsNormBackwardKernel)
