#include "kernels/core/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace jevons {
namespace {

constexpr std::int64_t kBase = std::int64_t{1} << 32;
constexpr std::int64_t kTermsPerCarry = std::int64_t{1} << 30;  // a term moves a digit by less than kBase
constexpr int kMantissaBits = 53;
constexpr int kExponentBias = 1075;  // a double is its mantissa times 2^(exponent field - 1075)

}  // namespace

void ExactSum::add(double term) {
  const auto bits = std::bit_cast<std::uint64_t>(term);
  const int field = static_cast<int>(bits >> 52 & 0x7ff);
  int position = field - kExponentBias - kLowest;  // of the mantissa's last bit
  if (position <= -kMantissaBits) return;
  if (position + 2 * 32 >= 32 * kDigits) {
    parts_[std::isnan(term) ? kNan : kTooLarge] += 1;
    return;
  }
  std::uint64_t mantissa = (bits & 0xfffffffffffff) | std::uint64_t{1} << 52;
  if (position < 0) mantissa >>= -position, position = 0;
  const auto digit = static_cast<std::size_t>(position / 32);
  const int shift = position % 32;
  const std::uint64_t low = mantissa << shift, high = shift == 0 ? 0 : mantissa >> (64 - shift);
  const std::int64_t sign = bits >> 63 != 0 ? -1 : 1;
  parts_[digit] += sign * static_cast<std::int64_t>(low & 0xffffffff);
  parts_[digit + 1] += sign * static_cast<std::int64_t>(low >> 32);
  parts_[digit + 2] += sign * static_cast<std::int64_t>(high);
  if (++pending_ == kTermsPerCarry) parts();
}

void ExactSum::add(const ExactSum& other) {
  ExactSum terms = other;
  std::ranges::transform(parts(), terms.parts(), parts_.begin(), std::plus<>());
  pending_ = 1;
}

std::span<std::int64_t, ExactSum::kParts> ExactSum::parts() {
  carry(parts_);
  pending_ = 0;
  return parts_;
}

// Brings every digit but the highest into [0, 2^32).
void ExactSum::carry(Parts& parts) {
  for (std::size_t i = 0; i + 1 < kDigits; ++i) {
    const std::int64_t over = parts[i] >> 32;  // rounds down
    parts[i] -= over * kBase;
    parts[i + 1] += over;
  }
}

double ExactSum::value() const {
  if (parts_[kNan] != 0) return std::numeric_limits<double>::quiet_NaN();
  if (parts_[kTooLarge] != 0) return std::numeric_limits<double>::infinity();
  Parts digits = parts_;
  carry(digits);
  const double sign = digits[kDigits - 1] < 0 ? -1 : 1;
  if (sign < 0) {
    for (std::int64_t& digit : digits) digit = -digit;
    carry(digits);
  }
  double sum = 0;
  for (int i = kDigits; i-- > 0;) {
    sum += std::ldexp(static_cast<double>(digits[static_cast<std::size_t>(i)]), 32 * i + kLowest);
  }
  return sign * sum;
}

}  // namespace jevons
