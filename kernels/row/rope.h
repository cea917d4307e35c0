// Rotary position embedding (derivation of the adjoint: docs/kernels-row.md).
#pragma once

#include "kernels/positions.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

struct TokenPositionsKernel {
  std::int32_t* positions;
  std::int64_t numel, length;
  Positions at;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, numel);
    group.each(block.size, [=, *this](std::int64_t i) {
      positions[block.begin + i] = static_cast<std::int32_t>(at[(block.begin + i) % length]);
    });
  }
};

// One head of one token, to be rotated in place.
template <class T>
struct RopeRow {
  using A = accumulator_t<T>;
  Rows<T> x;
  const std::int32_t* positions;  // (tokens)
  const A* cosines;               // (positions, half)
  const A* sines;
  std::int64_t half;
  A direction;  // 1 is the forward rotation, -1 its inverse and adjoint

  // Of the row's angles.
  JEVONS_HD std::int64_t place(std::int64_t row) const {
    return positions[divide(row, x.heads).quotient] * half;
  }
};

// Pairs (i, i + half).
template <class T>
struct RopeKernel {
  static constexpr int kPack = kPackOf<T>;
  static constexpr bool kShortRows = true;
  RopeRow<T> head;

  std::int64_t width() const { return head.half; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t place = head.place(row);
    T* low = head.x[row];
    group.each(head.half, [low, high = low + head.half, cosine = head.cosines + place,
                           sine = head.sines + place, direction = head.direction](auto i) {
      const auto a = load(low, i), b = load(high, i), c = load(cosine, i), s = direction * load(sine, i);
      store(low, i, a * c - b * s);
      store(high, i, b * c + a * s);
    });
  }
};

// Pairs (2i, 2i + 1).
template <class T>
struct RopeInterleavedKernel {
  static constexpr bool kShortRows = true;
  RopeRow<T> head;

  std::int64_t width() const { return head.half; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t place = head.place(row);
    group.each(head.half, [x = head.x[row], cosine = head.cosines + place, sine = head.sines + place,
                           direction = head.direction](std::int64_t i) {
      const auto a = load(x, 2 * i), b = load(x, 2 * i + 1), c = load(cosine, i),
                 s = direction * load(sine, i);
      store(x, 2 * i, a * c - b * s);
      store(x, 2 * i + 1, b * c + a * s);
    });
  }
};

}  // namespace jevons

#define JEVONS_ROPE_KERNELS(X)                \
  JEVONS_FOR_FLOATS(X, RopeKernel)            \
  JEVONS_FOR_FLOATS(X, RopeInterleavedKernel) \
  X(TokenPositionsKernel)
