#include "trainer/config/scalars.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "trainer/config/yaml_tree.h"

namespace jevons {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view without_sign(std::string_view text) {
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  return text;
}

// "010" reads as 8 in YAML 1.1 and as 10 in YAML 1.2.
std::string leading_zero_problem(std::string_view text) {
  std::string_view digits = without_sign(text);
  if (digits.size() < 2 || digits[0] != '0' || !is_digit(digits[1])) return "";
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size() - 1));
  return fmt::format("\"{}\" starts with a zero; write {}{}", printable(text), text.front() == '-' ? "-" : "",
                     printable(digits));
}

template <class T>
Parsed<T> parse_integer(std::string_view text) {
  const std::string_view digits = without_sign(text);
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_digit)) {
    const bool number_like = !digits.empty() && is_digit(digits.front());
    return {{},
            fmt::format("expected a whole number, found \"{}\"{}", printable(text),
                        number_like ? "; write plain decimal digits" : "")};
  }
  if (std::string problem = leading_zero_problem(text); !problem.empty()) return {{}, problem};
  Parsed<T> parsed;
  if (text.front() == '+') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed.value);
  if (error != std::errc() || end != text.data() + text.size()) {
    parsed.problem = fmt::format("{} does not fit into 64 bits", printable(text));
  }
  return parsed;
}

}  // namespace

Parsed<std::int64_t> parse_signed(std::string_view text) {
  return parse_integer<std::int64_t>(text);
}

Parsed<std::uint64_t> parse_unsigned(std::string_view text) {
  const Parsed<std::int64_t> with_sign = parse_signed(text);
  if (with_sign.problem.empty() && with_sign.value < 0) {
    return {0, fmt::format("{} is out of range; must be at least 0", printable(text))};
  }
  return parse_integer<std::uint64_t>(text);
}

Parsed<double> parse_number(std::string_view text) {
  const std::string_view digits = without_sign(text);
  Parsed<double> parsed;
  std::errc error = std::errc::invalid_argument;
  const char* end = digits.data();
  if (!digits.empty() && (is_digit(digits.front()) || digits.front() == '.')) {
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), parsed.value);
    error = result.ec, end = result.ptr;
  }
  if (error == std::errc::result_out_of_range) {
    parsed.problem = fmt::format("{} does not fit into a 64-bit float", printable(text));
  } else if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(parsed.value)) {
    parsed.problem = fmt::format("expected a finite number, found \"{}\"", printable(text));
  } else {
    parsed.problem = leading_zero_problem(text);
  }
  if (text.front() == '-') parsed.value = -parsed.value;
  return parsed;
}

Parsed<bool> parse_boolean(std::string_view text) {
  if (text == "true") return {true, ""};
  if (text == "false") return {false, ""};
  return {false, fmt::format("expected true or false, found \"{}\"", printable(text))};
}

}  // namespace jevons
