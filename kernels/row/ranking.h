// Ranking inside a row: the largest, then the next, and so on, without a list of what was taken.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/host_device.h"

namespace jevons {

// An entry of a ranking by falling value, ties to the lower index. index -1: none.
template <class A>
struct Pick {
  A value;
  std::int64_t index;
};
template <class A>
inline constexpr Pick<A> kBeforeAll{std::numeric_limits<A>::infinity(), -1};

template <class A>
JEVONS_HD A nan_last(A value) {
  return value == value ? value : -std::numeric_limits<A>::infinity();
}

// The entry that follows `previous` in the ranking of key(begin) .. key(begin + n - 1). No list of what was
// taken is needed: an entry is still free if it ranks below the last one taken.
template <class Group, class A, class Key>
JEVONS_HD Pick<A> next_best(const Group& group, std::int64_t begin, std::int64_t n, Pick<A> previous,
                            Key key) {
  const auto free = [=](std::int64_t i) {
    const A value = key(i);
    return (value < previous.value) | ((value == previous.value) & (i > previous.index));
  };
  const A best = group.max(n, [=](std::int64_t i) {
    return free(begin + i) ? key(begin + i) : -std::numeric_limits<A>::infinity();
  });
  // Counted from the end, so that the largest is the lowest index.
  const A from_end = group.max(n, [=](std::int64_t i) {
    return free(begin + i) & (key(begin + i) == best) ? static_cast<A>(n - i) : A(0);
  });
  return {best, from_end > 0 ? begin + n - static_cast<std::int64_t>(from_end) : -1};
}

}  // namespace jevons
