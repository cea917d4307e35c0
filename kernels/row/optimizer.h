// Optimizer updates over flat ranges. Each pass reads the gradient once and leaves it 0.
#pragma once

#include <cmath>

#include "kernels/row/block.h"
#include "kernels/row/scalar.h"

namespace jevons {

// A: master weight, moments and gradient; W: working weight, which may be the master itself.
template <class A, class W>
struct AdamWKernel {
  // Constants of one step, computed in double. m = keep1 m + take1 g, v = keep2 v + take2 g^2,
  // w = keep w - rate m / (sqrt(unbias2 v) + eps).
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
                            weight = weight + block.begin, s = step](std::int64_t i) {
      const A g = grad[i] * s.grad_scale;
      const A m = s.keep1 * moment1[i] + s.take1 * g;
      const A v = s.keep2 * moment2[i] + s.take2 * (g * g);
      const A w = s.keep * master[i] - s.rate * m / (std::sqrt(s.unbias2 * v) + s.eps);
      moment1[i] = m;
      moment2[i] = v;
      grad[i] = 0;
      master[i] = w;
      weight[i] = convert<W>(w);
    });
  }
};

template <class A, class W>
struct SgdKernel {
  A* master;
  A* grad;
  W* weight;
  std::int64_t numel;
  A rate;  // learning rate times gradient scale

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [master = master + block.begin, grad = grad + block.begin,
                            weight = weight + block.begin, rate = rate](std::int64_t i) {
      const A w = master[i] - rate * grad[i];
      grad[i] = 0;
      master[i] = w;
      weight[i] = convert<W>(w);
    });
  }
};

}  // namespace jevons
