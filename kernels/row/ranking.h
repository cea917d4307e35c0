// Ranking inside a row: the largest, then the next, and so on, without a list of what was taken.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/host_device.h"
#include "kernels/row/pick.h"

namespace jevons {

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
    const A value = key(begin + i);
    return (value < previous.value) | ((value == previous.value) & (begin + i > previous.index));
  };
  const Pick<A> best = group.best(n, free, [=](std::int64_t i) { return key(begin + i); });
  return {best.value, best.index < 0 ? -1 : begin + best.index};
}

}  // namespace jevons
