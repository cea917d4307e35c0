// exp, log, square root and sigmoid of row kernels. The float versions are branch-free polynomials, so that
// a compiler turns a loop over them into vector code; the double versions are the standard library's. On a
// GPU exp and the division of sigmoid are the hardware's approximations, corrected: within 2 ulp too.
// Coefficients: minimax fits (Remez) of the relative error on the reduced range, made for this file.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/core/host_device.h"

namespace jevons {
namespace detail {

// ln 2 in two parts; the product of the first with an integer below 2^10 is exact.
inline constexpr float kLn2Hi = 0.693359375f;
inline constexpr float kLn2Lo = -2.12194440e-4f;

}  // namespace detail

// Within 2 ulp for results from 2^-125 on; smaller results are 0, larger than the largest float +inf; exp(0)
// = 1; NaN stays. x = n ln 2 + r, exp(x) = 2^n (1 + r + r^2 q(r)), |r| <= ln 2 / 2; the fit is good
// to 3.1e-9.
JEVONS_HD inline float exp_of(float x) {
#ifdef __CUDA_ARCH__
  return ::expf(x);  // a third of the instructions
#else
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
  constexpr float kRound = 12582912.0f;
  constexpr auto kRoundBits = std::bit_cast<std::int32_t>(kRound);
  // At the lower bound the exponent field of 2^(n-1) is 0, which makes the result 0. Above the upper one r is
  // positive and the result overflows by itself.
  const float y = x < -87.6f ? -87.6f : x;
  const auto t = std::bit_cast<std::int32_t>(y * 1.44269504f + kRound);
  const std::int32_t rounded = t < kRoundBits + 128 ? t : kRoundBits + 128;
  const float n = std::bit_cast<float>(rounded) - kRound;
  const float r = (y - n * detail::kLn2Hi) - n * detail::kLn2Lo;
  float q = 1.381461023e-3f;
  q = q * r + 8.368709797e-3f;
  q = q * r + 4.166838741e-2f;
  q = q * r + 1.666652069e-1f;
  q = q * r + 4.999999345e-1f;
  const float p = (q * r) * r + r + 1.0f;
  const auto biased = static_cast<std::uint32_t>(rounded) - static_cast<std::uint32_t>(kRoundBits) + 126u;
  return (p + p) * std::bit_cast<float>(biased << 23);
#endif
}
JEVONS_HD inline double exp_of(double x) {
  return std::exp(x);
}

// Within 2 ulp over all positive floats, subnormal ones too; log(0) = -inf, negative and NaN give NaN, +inf
// stays. x = 2^k (1 + f), s = f / (2 + f), log(1 + f) = f - s (f - R), R = s^2 q(s^2); the fit is good to
// 5e-12.
JEVONS_HD inline float log_of(float x) {
  constexpr float kSmallestNormal = 1.17549435e-38f;
  const bool subnormal = x < kSmallestNormal;
  const auto bits = std::bit_cast<std::uint32_t>(subnormal ? x * 0x1p23f : x);
  constexpr std::uint32_t kSqrtHalf = 0x3f3504f3u;  // bits of sqrt(1/2), the smallest 1 + f
  const std::int32_t k = static_cast<std::int32_t>(bits - kSqrtHalf) >> 23;
  const float f = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(k) << 23)) - 1.0f;
  const float s = f / (2.0f + f);
  const float z = s * s;
  float q = 2.358147268e-1f;
  q = q * z + 2.853734694e-1f;
  q = q * z + 4.000033454e-1f;
  q = q * z + 6.666666565e-1f;
  const float n = static_cast<float>(k - (subnormal ? 23 : 0));
  const float y = n * detail::kLn2Hi + (n * detail::kLn2Lo + (f - s * (f - z * q)));
  const float at_or_below_zero =
      x == 0.0f ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  const float positive = x < std::numeric_limits<float>::infinity() ? y : x;
  return x <= 0.0f ? at_or_below_zero : positive;
}
JEVONS_HD inline double log_of(double x) {
  return std::log(x);
}

JEVONS_HD inline float sqrt_of(float x) {
  return std::sqrt(x);
}
JEVONS_HD inline double sqrt_of(double x) {
  return std::sqrt(x);
}

// 1 / x for x >= 1.
template <class A>
JEVONS_HD A inverse(A x) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<A, float>) return __fdividef(1.0f, x);
#endif
  return A(1) / x;
}

// log(1 + x) of 0 <= x <= 1, also where 1 + x rounds to 1: the rounding of u = 1 + x is undone by x / (u -
// 1).
template <class A>
JEVONS_HD A log1p_of(A x) {
  const A u = A(1) + x, rounded = u - A(1);
  const A correction = x / (rounded == A(0) ? A(1) : rounded);
  return rounded == A(0) ? x : log_of(u) * correction;
}
// log(1 + exp(x)).
template <class A>
JEVONS_HD A softplus(A x) {
  return (x > A(0) ? x : A(0)) + log1p_of(exp_of(x > A(0) ? -x : x));
}

// The smaller and the larger of x and a bound; NaN stays.
template <class A>
JEVONS_HD A at_most(A x, A bound) {
  return x > bound ? bound : x;
}
template <class A>
JEVONS_HD A at_least(A x, A bound) {
  return x < bound ? bound : x;
}
// `value`, or 0 where x is above a bound.
template <class A>
JEVONS_HD A zero_above(A value, A x, A bound) {
  return x > bound ? A(0) : value;
}

// 1 / (1 + exp(-x)); 0 below -88.8 in float.
template <class A>
JEVONS_HD A sigmoid(A x) {
  return inverse(A(1) + exp_of(-x));
}

}  // namespace jevons
