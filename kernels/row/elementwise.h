// Kernels over flat ranges; each call works on one block of kFlatBlock elements.
#pragma once

#include <cmath>

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// Bytes, of any dtype.
struct FillZeroKernel {
  static constexpr int kPack = kPackOf<std::uint8_t>;
  std::uint8_t* y;
  std::int64_t bytes;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, bytes);
    group.each(block.size, [y = y + block.begin](auto i) { clear(y, i); });
  }
};

struct CopyKernel {
  static constexpr int kPack = kPackOf<std::uint8_t>;
  const std::uint8_t* x;
  std::uint8_t* y;
  std::int64_t bytes;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, bytes);
    group.each(block.size, [x = x + block.begin, y = y + block.begin](auto i) { move(x, y, i); });
  }
};

template <class From, class To>
struct CastKernel {
  static constexpr int kPack = kPackOf<From, To>;
  const From* x;
  To* y;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [x = x + block.begin, y = y + block.begin](auto i) {
      store(y, i, load_as<accumulator_t<To>>(x, i));
    });
  }
};

template <class T>
struct AddKernel {
  static constexpr int kPack = kPackOf<T>;
  const T* a;
  const T* b;
  T* y;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [a = a + block.begin, b = b + block.begin, y = y + block.begin](auto i) {
      store(y, i, load(a, i) + load(b, i));
    });
  }
};

// The sum is taken in the accumulator type of y.
template <class X, class Y>
struct AddScaledKernel {
  static constexpr int kPack = kPackOf<X, Y>;
  accumulator_t<Y> scale;
  const X* x;
  Y* y;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    using A = accumulator_t<Y>;
    const Block block = block_at(index, numel);
    group.each(block.size, [scale = scale, x = x + block.begin, y = y + block.begin](auto i) {
      store(y, i, load(y, i) + scale * load_as<A>(x, i));
    });
  }
};

template <class X, class Z>
struct AddWeightedKernel {
  static constexpr int kPack = kPackOf<X, accumulator_t<X>, Z>;
  accumulator_t<X> a, b;
  const X* x;
  const accumulator_t<X>* y;
  Z* z;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [a = a, b = b, x = x + block.begin, y = y + block.begin,
                            z = z + block.begin](auto i) { store(z, i, a * load(x, i) + b * load(y, i)); });
  }
};

template <class A, class Y>
struct NormaliseKernel {
  static constexpr int kPack = kPackOf<A, Y>;
  const A* x;
  const double* squares;
  double eps;
  Y* y;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    const A factor = static_cast<A>(1 / (sqrt_of(*squares) + eps));
    group.each(block.size, [factor, x = x + block.begin, y = y + block.begin](auto i) {
      store(y, i, factor * load(x, i));
    });
  }
};

template <class T>
struct ScaleKernel {
  static constexpr int kPack = kPackOf<T>;
  accumulator_t<T> scale;
  T* y;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [scale = scale, y = y + block.begin](auto i) { store(y, i, load(y, i) * scale); });
  }
};

// partial[block] = sum of squares of its elements.
template <class T>
struct SumOfSquaresKernel {
  static constexpr int kPack = kPackOf<T>;
  const T* x;
  double* partial;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    const double sum = group.sum(block.size, [x = x + block.begin](auto i) {
      const auto v = load_as<double>(x, i);
      return v * v;
    });
    group.once([&] { partial[index] = sum; });
  }
};

// partial[block] = how many of its elements are NaN or infinite.
template <class T>
struct CountNonfiniteKernel {
  const T* x;
  std::int64_t* partial;
  std::int64_t numel;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    const std::int32_t count = group.sum(block.size, [x = x + block.begin](std::int64_t i) -> std::int32_t {
      return std::isfinite(load(x, i)) ? 0 : 1;
    });
    group.once([&] { partial[index] = count; });
  }
};

}  // namespace jevons

#define JEVONS_ELEMENTWISE_KERNELS(X)        \
  X(FillZeroKernel)                          \
  X(CopyKernel)                              \
  JEVONS_FOR_FLOAT_PAIRS(X, CastKernel)      \
  JEVONS_FOR_FLOATS(X, AddKernel)            \
  JEVONS_FOR_FLOAT_PAIRS(X, AddScaledKernel) \
  X(AddWeightedKernel<float, float>)         \
  X(AddWeightedKernel<float, bf16>)          \
  X(AddWeightedKernel<bf16, float>)          \
  X(AddWeightedKernel<bf16, bf16>)           \
  X(AddWeightedKernel<double, double>)       \
  JEVONS_FOR_WEIGHTS(X, NormaliseKernel)     \
  JEVONS_FOR_FLOATS(X, ScaleKernel)          \
  JEVONS_FOR_FLOATS(X, SumOfSquaresKernel)   \
  JEVONS_FOR_FLOATS(X, CountNonfiniteKernel)
