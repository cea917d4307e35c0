// Optimizer updates over flat ranges. Each pass reads the gradient once; the one that changes the weights
// leaves it 0. Moments are kept in the accumulator type or in bf16, and computed in the accumulator type.
#pragma once

#include <bit>

#include "kernels/core/rng.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// How a moment is rounded when it is kept: to nearest.
struct ToNearest {
  static constexpr bool kByElement = false;
  JEVONS_HD ToNearest from(std::int64_t) const { return {}; }
  template <class M, class Index, class Value>
  JEVONS_HD void keep(M* moment, Index i, const Value& value, int) const {
    store(moment, i, value);
  }
};

// To bf16, up or down with the probability that makes the mean the value: 16 random bits are added to those
// that are dropped (Gupta et al., arXiv:1502.02551, section 3). They are a function of the element's place in
// its whole weight; number 0 and 1 of an element are independent.
struct ByCounter {
  static constexpr bool kByElement = true;
  RandomStream random;
  std::int64_t begin;                     // of the range, in this rank's part of the weight
  std::int64_t first, cols, global_cols;  // the part's first element and its rows, in the whole weight

  JEVONS_HD ByCounter from(std::int64_t i) const {
    ByCounter there = *this;
    there.begin += i;
    return there;
  }
  JEVONS_HD void keep(bf16* moment, std::int64_t i, float value, int number) const {
    const Quotient at = divide(begin + i, cols);
    const auto index = static_cast<std::uint64_t>(first + at.quotient * global_cols + at.remainder);
    const std::uint32_t draw = random.word(index) >> (16 * number) & 0xffffu;
    moment[i].bits = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + draw) >> 16);
  }
};

template <class Rounding, class... T>
inline constexpr int kPackOfRounded = Rounding::kByElement ? 1 : kPackOf<T...>;

// A: master weight and gradient, W: working weight, which may be the master itself, M: moments.
template <class A, class W, class M, class Rounding>
struct AdamWKernel {
  static constexpr int kPack = kPackOfRounded<Rounding, A, W, M>;
  // Constants of one step, computed in double. m = keep1 m + take1 g, v = keep2 v + take2 g^2, w = keep w -
  // rate m / (sqrt(unbias2 v) + eps).
  struct Step {
    A grad_scale, keep1, take1, keep2, take2, unbias2, eps, keep, rate;
  };
  A* master;
  M* moment1;
  M* moment2;
  A* grad;
  W* weight;
  std::int64_t numel;
  Step step;
  Rounding rounding;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size,
               [master = master + block.begin, moment1 = moment1 + block.begin,
                moment2 = moment2 + block.begin, grad = grad + block.begin, weight = weight + block.begin,
                s = step, rounding = rounding.from(block.begin)](auto i) {
                 const auto g = load(grad, i) * s.grad_scale;
                 const auto m = s.keep1 * load(moment1, i) + s.take1 * g;
                 const auto v = s.keep2 * load(moment2, i) + s.take2 * (g * g);
                 const auto w = s.keep * load(master, i) - s.rate * m / (sqrt_of(s.unbias2 * v) + s.eps);
                 rounding.keep(moment1, i, m, 0);
                 rounding.keep(moment2, i, v, 1);
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
  A keep, rate;  // 1 - learning rate times decay; learning rate times gradient scale

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [master = master + block.begin, grad = grad + block.begin,
                            weight = weight + block.begin, keep = keep, rate = rate](auto i) {
      const auto w = keep * load(master, i) - rate * load(grad, i);
      clear(grad, i);
      store(master, i, w);
      store(weight, i, w);
    });
  }
};

// m = keep m + scale g; the gradient becomes take_m m + take_g g.
template <class A, class M, class Rounding>
struct MomentumKernel {
  static constexpr int kPack = kPackOfRounded<Rounding, A, M>;
  M* moment;
  A* grad;
  std::int64_t numel;
  A scale, keep, take_m, take_g;
  Rounding rounding;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size,
               [moment = moment + block.begin, grad = grad + block.begin, scale = scale, keep = keep,
                take_m = take_m, take_g = take_g, rounding = rounding.from(block.begin)](auto i) {
                 const auto g = scale * load(grad, i);
                 const auto m = keep * load(moment, i) + g;
                 rounding.keep(moment, i, m, 0);
                 store(grad, i, take_m * m + take_g * g);
               });
  }
};

// Element i of the range is in row (begin + i) / cols, and is multiplied by that row's factor.
template <class A, class W>
struct ScaleRowsKernel {
  static constexpr bool kManyRegisters = true;
  A* master;
  W* weight;
  const A* factors;
  std::int64_t numel, begin, cols;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [master = master + block.begin, weight = weight + block.begin, factors = factors,
                            begin = begin + block.begin, cols = cols](std::int64_t i) {
      const A w = load(master, i) * factors[divide(begin + i, cols).quotient];
      store(master, i, w);
      store(weight, i, w);
    });
  }
};

}  // namespace jevons

#define JEVONS_OPTIMIZER_KERNELS(X)                 \
  X(AdamWKernel<float, float, float, ToNearest>)    \
  X(AdamWKernel<float, float, bf16, ToNearest>)     \
  X(AdamWKernel<float, float, bf16, ByCounter>)     \
  X(AdamWKernel<float, bf16, float, ToNearest>)     \
  X(AdamWKernel<float, bf16, bf16, ToNearest>)      \
  X(AdamWKernel<float, bf16, bf16, ByCounter>)      \
  X(AdamWKernel<double, double, double, ToNearest>) \
  JEVONS_FOR_WEIGHTS(X, ScaleRowsKernel)            \
  JEVONS_FOR_WEIGHTS(X, SgdKernel)                  \
  X(MomentumKernel<float, float, ToNearest>)        \
  X(MomentumKernel<float, bf16, ToNearest>)         \
  X(MomentumKernel<float, bf16, ByCounter>)         \
  X(MomentumKernel<double, double, ToNearest>)
