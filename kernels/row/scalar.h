// Element access of row kernels: an element is loaded into its accumulator type, and rounds once when stored.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/dtype.h"
#include "kernels/core/host_device.h"

namespace jevons {

template <class T>
struct accumulator {
  using type = float;
};
template <>
struct accumulator<double> {
  using type = double;
};
// The C++ type of accumulator_of(dtype): float for float and bf16, double for double.
template <class T>
using accumulator_t = typename accumulator<T>::type;

// bf16 converts through float.
template <class To, class From>
JEVONS_HD To convert(From value) {
  if constexpr (std::is_same_v<From, bf16>) {
    return static_cast<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bf16>) {
    return bf16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class T>
JEVONS_HD accumulator_t<T> load(const T* p, std::int64_t i) {
  return convert<accumulator_t<T>>(p[i]);
}

template <class T>
JEVONS_HD void store(T* p, std::int64_t i, accumulator_t<T> value) {
  p[i] = convert<T>(value);
}

}  // namespace jevons
