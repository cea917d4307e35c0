// Atomics and intrinsics of CUDA on the host. Atomics are relaxed, as CUDA's are. Approximate functions
// (__expf) are exact here, so their error on a GPU is not seen.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace emulation {

template <std::size_t kBytes>
using word = std::conditional_t<kBytes == 2, std::uint16_t,
                                std::conditional_t<kBytes == 4, std::uint32_t, std::uint64_t>>;

// *address = f(*address), returns the value before.
template <class T, class F>
T atomic_update(T* address, F f) {
  using Word = word<sizeof(T)>;
  Word* target = reinterpret_cast<Word*>(address);
  Word before = __atomic_load_n(target, __ATOMIC_RELAXED), after;
  do {
    after = std::bit_cast<Word>(static_cast<T>(f(std::bit_cast<T>(before))));
  } while (!__atomic_compare_exchange_n(target, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return std::bit_cast<T>(before);
}

}  // namespace emulation

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T old) { return old + value; });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T old) { return old | value; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return emulation::atomic_update(address, [=](T old) { return old == expected ? value : old; });
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline int __ffsll(long long x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1;
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
