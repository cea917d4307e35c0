// A sum of doubles without rounding: its value depends neither on the order of the terms nor on who added
// which. A fixed-point number of 640 bits in digits of 32 (Kulisch's long accumulator); of each term the
// bits below 2^-320 are cut off. A term that is infinite or above 2^308 makes the value infinite, NaN makes
// it NaN.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace jevons {

class ExactSum {
 public:
  static constexpr std::int64_t kParts = 22;

  void add(double term);
  void add(const ExactSum& other);
  // Rounded to within one unit of the last place; equal sums give equal bits.
  double value() const;
  // Sums of up to 2^30 owners add up part by part: all_reduce these.
  std::span<std::int64_t, kParts> parts();

 private:
  static constexpr int kDigits = kParts - 2, kTooLarge = kDigits, kNan = kDigits + 1;
  static constexpr int kLowest = -320;  // digit i counts units of 2^(32 i + kLowest)
  using Parts = std::array<std::int64_t, kParts>;

  static void carry(Parts& parts);

  Parts parts_{};  // the digits, low to high, each of any sign; then how many terms were too large or NaN
  std::int64_t pending_ = 0;  // terms since the last carry
};

}  // namespace jevons
