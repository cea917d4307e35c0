// Packs: neighbouring elements of a row that one thread of a GPU loads, works on and stores together, 16
// bytes at a time where the address permits. A kernel whose lambdas take `auto i` runs on an element (i is
// std::int64_t) and on a pack (i is PackIndex); both do the same arithmetic per element.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/row/math.h"
#include "kernels/row/scalar.h"

namespace jevons {

// Elements [begin, begin + N) of a row; begin is a multiple of N.
template <int N>
struct PackIndex {
  std::int64_t begin;
};

// N numbers; arithmetic is element by element, and a single number stands for N
// equal ones.
template <class A, int N>
struct Pack {
  A lane[N];

  Pack() = default;
  JEVONS_HD Pack(A value) {  // implicit, so that mixed expressions read like
                             // those of numbers
    for (int j = 0; j < N; ++j) lane[j] = value;
  }
  template <class F>
  JEVONS_HD static Pack of(F f) {
    Pack out;
    for (int j = 0; j < N; ++j) out.lane[j] = f(j);
    return out;
  }

  JEVONS_HD friend Pack operator+(const Pack& a, const Pack& b) {
    return of([&](int j) { return a.lane[j] + b.lane[j]; });
  }
  JEVONS_HD friend Pack operator-(const Pack& a, const Pack& b) {
    return of([&](int j) { return a.lane[j] - b.lane[j]; });
  }
  JEVONS_HD friend Pack operator*(const Pack& a, const Pack& b) {
    return of([&](int j) { return a.lane[j] * b.lane[j]; });
  }
  JEVONS_HD friend Pack operator/(const Pack& a, const Pack& b) {
    return of([&](int j) { return a.lane[j] / b.lane[j]; });
  }
  JEVONS_HD friend Pack operator-(const Pack& a) {
    return of([&](int j) { return -a.lane[j]; });
  }
  JEVONS_HD Pack& operator+=(const Pack& other) { return *this = *this + other; }
  JEVONS_HD friend Pack exp_of(const Pack& a) {
    return of([&](int j) { return exp_of(a.lane[j]); });
  }
  JEVONS_HD friend Pack inverse(const Pack& a) {
    return of([&](int j) { return inverse(a.lane[j]); });
  }
  JEVONS_HD friend Pack sqrt_of(const Pack& a) {
    return of([&](int j) { return sqrt_of(a.lane[j]); });
  }
  JEVONS_HD friend Pack at_most(const Pack& a, A bound) {
    return of([&](int j) { return at_most(a.lane[j], bound); });
  }
  JEVONS_HD friend Pack at_least(const Pack& a, A bound) {
    return of([&](int j) { return at_least(a.lane[j], bound); });
  }
  JEVONS_HD friend Pack zero_above(const Pack& value, const Pack& a, A bound) {
    return of([&](int j) { return zero_above(value.lane[j], a.lane[j], bound); });
  }
};

namespace detail {

// What one instruction moves.
template <std::size_t kBytes>
struct alignas(kBytes) Chunk {
  std::array<std::uint32_t, kBytes / 4> word;
};

// N elements of T in memory, as chunks of up to 16 bytes.
template <class T, int N>
struct Elements {
  static constexpr std::size_t kBytes = N * sizeof(T), kChunk = kBytes < 16 ? kBytes : 16;
  using Chunks = std::array<Chunk<kChunk>, kBytes / kChunk>;
  std::array<T, N> value;

  JEVONS_HD static bool aligned(const T* p) { return reinterpret_cast<std::uintptr_t>(p) % kChunk == 0; }

  // The elements from p + i on; i is a multiple of N.
  JEVONS_HD static Elements read(const T* p, std::int64_t i) {
    if (aligned(p)) return std::bit_cast<Elements>(*reinterpret_cast<const Chunks*>(p + i));
    Elements out;
    for (int j = 0; j < N; ++j) out.value[j] = p[i + j];
    return out;
  }
  JEVONS_HD void write(T* p, std::int64_t i) const {
    if (aligned(p)) {
      *reinterpret_cast<Chunks*>(p + i) = std::bit_cast<Chunks>(*this);
    } else {
      for (int j = 0; j < N; ++j) p[i + j] = value[j];
    }
  }
};

}  // namespace detail

template <class To, class T, int N>
JEVONS_HD Pack<To, N> load_as(const T* p, PackIndex<N> i) {
  const auto in = detail::Elements<T, N>::read(p, i.begin);
  return Pack<To, N>::of([&](int j) { return convert<To>(in.value[j]); });
}

template <class T, int N>
JEVONS_HD Pack<accumulator_t<T>, N> load(const T* p, PackIndex<N> i) {
  return load_as<accumulator_t<T>>(p, i);
}

template <class T, int N>
JEVONS_HD void store(T* p, PackIndex<N> i, const Pack<accumulator_t<T>, N>& value) {
  detail::Elements<T, N> out;
  for (int j = 0; j < N; ++j) out.value[j] = convert<T>(value.lane[j]);
  out.write(p, i.begin);
}

template <class T, int N>
JEVONS_HD void clear(T* p, PackIndex<N> i) {
  detail::Elements<T, N>{}.write(p, i.begin);
}

template <class T, int N>
JEVONS_HD void move(const T* from, T* to, PackIndex<N> i) {
  detail::Elements<T, N>::read(from, i.begin).write(to, i.begin);
}

template <class A, int N>
JEVONS_HD Pack<A, N> indicator(PackIndex<N> i, std::int32_t place) {
  return Pack<A, N>::of([&](int j) { return indicator<A>(i.begin + j, place); });
}

}  // namespace jevons
