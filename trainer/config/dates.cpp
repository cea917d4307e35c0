#include "trainer/config/dates.h"

#include <fmt/chrono.h>

#include <chrono>

namespace jevons {
namespace {

constexpr std::size_t kDaySize = 10, kMomentSize = 16;  // 2026-05-01T18:30

// Every character of the pattern: 0 stands for a digit, another for itself.
bool has_form(const std::string& text, const std::string& pattern) {
  if (text.size() != pattern.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (pattern[i] == '0' ? !digit : text[i] != pattern[i]) return false;
  }
  return true;
}

}  // namespace

std::optional<double> parse_day(const std::string& text) {
  if (!has_form(text, "0000-00-00")) return std::nullopt;
  const std::chrono::year_month_day date{
      std::chrono::year(std::stoi(text.substr(0, 4))),
      std::chrono::month(static_cast<unsigned>(std::stoi(text.substr(5, 2)))),
      std::chrono::day(static_cast<unsigned>(std::stoi(text.substr(8, 2))))};
  if (!date.ok()) return std::nullopt;
  return std::chrono::duration<double>(std::chrono::sys_days(date).time_since_epoch()).count();
}

std::optional<double> parse_moment(const std::string& text) {
  if (text.size() == kDaySize) return parse_day(text);
  if (text.size() != kMomentSize || !has_form(text.substr(kDaySize), "T00:00")) return std::nullopt;
  const int hour = std::stoi(text.substr(11, 2)), minute = std::stoi(text.substr(14, 2));
  const std::optional<double> day = parse_day(text.substr(0, kDaySize));
  if (!day || hour > 23 || minute > 59) return std::nullopt;
  return *day + 60.0 * (60 * hour + minute);
}

std::string format_moment(double time) {
  return fmt::format("{:%Y-%m-%dT%H:%M}", fmt::gmtime(static_cast<std::time_t>(time)));
}

}  // namespace jevons
