// Rotary position embedding (derivation of the adjoint: docs/kernels-row.md).
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

struct TokenPositionsKernel {
  std::int32_t* positions;
  std::int64_t numel, length;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [=, *this](std::int64_t i) {
      positions[block.begin + i] = static_cast<std::int32_t>((block.begin + i) % length);
    });
  }
};

// Rotates in place one head of one token. direction 1 is the forward rotation, -1 its inverse and adjoint.
template <class T>
struct RopeKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  Rows<T> x;
  const std::int32_t* positions;  // (tokens)
  const A* cosines;               // (positions, half)
  const A* sines;
  std::int64_t half;
  A direction;

  std::int64_t width() const { return half; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t place = positions[divide(row, x.heads).quotient] * half;
    T* low = x[row];
    group.each(half, [low, high = low + half, cosine = cosines + place, sine = sines + place,
                      direction = direction](auto i) {
      const auto a = load(low, i), b = load(high, i), c = load(cosine, i), s = direction * load(sine, i);
      store(low, i, a * c - b * s);
      store(high, i, b * c + a * s);
    });
  }
};

}  // namespace jevons

#define JEVONS_ROPE_KERNELS(X)     \
  JEVONS_FOR_FLOATS(X, RopeKernel) \
  X(TokenPositionsKernel)
