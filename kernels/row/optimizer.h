// Optimizer updates over flat ranges. Each pass reads the gradient once and leaves it 0.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// A: master weight, moments and gradient; W: working weight, which may be the master itself.
template <class A, class W>
struct AdamWKernel {
  static constexpr int kPack = kPackOf<A, W>;
  // Constants of one step, computed in double. m = keep1 m + take1 g, v = keep2 v + take2 g^2, w = keep w -
  // rate m / (sqrt(unbias2 v) + eps).
  struct Step {
    A grad_scale, keep1, take1, keep2, take2, unbias2, eps, keep, rate;
  };
  A* master;
  A* moment1;
  A* moment2;
  A* grad;
  W* weight;
  std::int64_t numel;
  Step step;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [master = master + block.begin, moment1 = moment1 + block.begin,
                            moment2 = moment2 + block.begin, grad = grad + block.begin,
                            weight = weight + block.begin, s = step](auto i) {
      const auto g = load(grad, i) * s.grad_scale;
      const auto m = s.keep1 * load(moment1, i) + s.take1 * g;
      const auto v = s.keep2 * load(moment2, i) + s.take2 * (g * g);
      const auto w = s.keep * load(master, i) - s.rate * m / (sqrt_of(s.unbias2 * v) + s.eps);
      store(moment1, i, m);
      store(moment2, i, v);
      clear(grad, i);
      store(master, i, w);
      store(weight, i, w);
    });
  }
};

template <class A, class W>
struct SgdKernel {
  static constexpr int kPack = kPackOf<A, W>;
  A* master;
  A* grad;
  W* weight;
  std::int64_t numel;
  A rate;  // learning rate times gradient scale

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [master = master + block.begin, grad = grad + block.begin,
                            weight = weight + block.begin, rate = rate](auto i) {
      const auto w = load(master, i) - rate * load(grad, i);
      clear(grad, i);
      store(master, i, w);
      store(weight, i, w);
    });
  }
};

}  // namespace jevons

#define JEVONS_OPTIMIZER_KERNELS(X)  \
  JEVONS_FOR_WEIGHTS(X, AdamWKernel) \
  JEVONS_FOR_WEIGHTS(X, SgdKernel)
