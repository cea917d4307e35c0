// An entry of a ranking inside a row.
#pragma once

#include <cstdint>
#include <limits>

namespace jevons {

// By falling value, ties to the lower index. index -1: none.
template <class A>
struct Pick {
  A value;
  std::int64_t index;
};
template <class A>
inline constexpr Pick<A> kBeforeAll{std::numeric_limits<A>::infinity(), -1};

}  // namespace jevons
