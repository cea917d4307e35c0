// Element access of row kernels: an element is loaded into its accumulator type, and rounds once when
// stored. The same functions over packs of elements: kernels/row/pack.h.
#pragma once

#include <algorithm>
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

template <class To, class T>
JEVONS_HD To load_as(const T* p, std::int64_t i) {
  return convert<To>(p[i]);
}

template <class T>
JEVONS_HD accumulator_t<T> load(const T* p, std::int64_t i) {
  return load_as<accumulator_t<T>>(p, i);
}

template <class T>
JEVONS_HD void store(T* p, std::int64_t i, accumulator_t<T> value) {
  p[i] = convert<T>(value);
}

// All bits 0: the number 0 in every type.
template <class T>
JEVONS_HD void clear(T* p, std::int64_t i) {
  p[i] = T{};
}

template <class T>
JEVONS_HD void move(const T* from, T* to, std::int64_t i) {
  to[i] = from[i];
}

// 1 at `place`, 0 elsewhere. 32 bits, as wide as a float, make the comparison cheap in vector code.
template <class A>
JEVONS_HD A indicator(std::int64_t i, std::int32_t place) {
  return static_cast<std::int32_t>(i) == place ? A(1) : A(0);
}

// Elements that a GPU thread takes together so that an access to the widest of these types has 16 bytes.
template <class... T>
inline constexpr int kPackOf = static_cast<int>(16 / std::max({sizeof(T)...}));

}  // namespace jevons
