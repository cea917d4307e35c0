// SwiGLU forward and backward (derivation: docs/kernels-row.md).
#pragma once

#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

template <class T>
struct SwigluKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  const T* gate_up;    // (rows, 2 cols)
  const A* row_scale;  // (rows) or null
  T* h;                // (rows, cols)
  std::int64_t cols;
  A limit;  // of gate from above, of up on both sides; infinity: none

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const T* gate = gate_up + row * 2 * cols;
    const T* up = gate + cols;
    const A scale = row_scale == nullptr ? A(1) : row_scale[row];
    group.each(cols, [gate, up, out = h + row * cols, scale, limit = limit](auto i) {
      const auto g = at_most(load(gate, i), limit);
      const auto u = at_least(at_most(load(up, i), limit), -limit);
      store(out, i, g * sigmoid(g) * u * scale);
    });
  }
};

// d_gate_up may be gate_up: each element is read before it is written.
template <class T>
struct SwigluBackwardKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  const T* dh;         // (rows, cols)
  const T* gate_up;    // (rows, 2 cols)
  const A* row_scale;  // (rows) or null
  T* d_gate_up;
  A* d_row_scale;  // (rows) or null
  std::int64_t cols;
  A limit;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const T* grad = dh + row * cols;
    const T* gate = gate_up + row * 2 * cols;
    const T* up = gate + cols;
    const A scale = row_scale == nullptr ? A(1) : row_scale[row];
    T* d_gate = d_gate_up + row * 2 * cols;
    // Writes both gradients and returns the term of d_row_scale.
    const auto backward = [grad, gate, up, d_gate, d_up = d_gate + cols, scale, limit = limit](auto i) {
      const auto g_in = load(gate, i), u_in = load(up, i), d = load(grad, i);
      const auto g = at_most(g_in, limit), u = at_least(at_most(u_in, limit), -limit);
      const auto s = sigmoid(g);
      const auto silu = g * s;
      store(d_gate, i, zero_above(d * scale * u * (s + silu * (A(1) - s)), g_in, limit));
      store(d_up, i, zero_above(zero_above(d * scale * silu, u_in, limit), -u_in, limit));
      return d * silu * u;
    };
    if (d_row_scale != nullptr) {
      const A sum = group.sum(cols, backward);
      group.once([&] { d_row_scale[row] = sum; });
    } else {
      group.each(cols, backward);
    }
  }
};

}  // namespace jevons

#define JEVONS_ACTIVATION_KERNELS(X) \
  JEVONS_FOR_FLOATS(X, SwigluKernel) \
  JEVONS_FOR_FLOATS(X, SwigluBackwardKernel)
