// Scalars without surprises: one way to write each value, and a reason that says what to write instead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace jevons {

// `problem` is empty when `value` holds; else it completes "key: ...".
template <class T>
struct Parsed {
  T value{};
  std::string problem;
};

// Plain decimal digits, an optional sign, no leading zero. Out of 64 bits is a problem.
Parsed<std::int64_t> parse_signed(std::string_view text);
Parsed<std::uint64_t> parse_unsigned(std::string_view text);
// Decimal, an optional exponent; finite.
Parsed<double> parse_number(std::string_view text);
// true or false.
Parsed<bool> parse_boolean(std::string_view text);

}  // namespace jevons
