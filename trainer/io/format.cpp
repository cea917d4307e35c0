#include "trainer/io/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <span>

namespace jevons {
namespace {

// Below this an amount is shown by its first two digits, so that what little there is never reads as 0.
constexpr double kSmall = 0.1;

// "1.23k": three significant digits with the largest unit that keeps the number at least 1.
std::string with_unit(double value, double step, std::span<const char* const> units) {
  std::size_t unit = 0;
  // Half a digit below `step`, so that rounding never gives "1000k".
  while (unit + 1 < units.size() && std::abs(value) >= step - 0.5 * step / 1000) value /= step, ++unit;
  if (unit == 0) return fmt::format("{:.0f}{}", value, units[0]);
  const double size = std::abs(value);
  return fmt::format("{:.{}f}{}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0, units[unit]);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "unknown";
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  constexpr double kYear = 365.25 * 86400, kMostInDays = 1000 * kYear;
  if (seconds >= kMostInDays) return fmt::format("{:.3g} years", seconds / kYear);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}h {:02}m", days, hours, minutes);
  if (hours > 0) return fmt::format("{}h {:02}m", hours, minutes);
  return fmt::format("{}m {:02}s", minutes, whole % 60);
}

std::string format_count(double count) {
  static constexpr std::array<const char*, 5> kUnits = {"", "k", "M", "B", "T"};
  return with_unit(count, 1000, kUnits);
}

std::string format_integer(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  const std::ptrdiff_t first = value < 0 ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string format_bytes(double bytes) {
  static constexpr std::array<const char*, 6> kUnits = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  return with_unit(bytes, 1024, kUnits);
}

std::string format_device_hours(double seconds) {
  const double hours = seconds / 3600;
  const double size = std::abs(hours);
  return size < kSmall ? fmt::format("{:.2g}", hours) : fmt::format("{:.{}f}", hours, size < 100 ? 2 : 1);
}

std::string format_money(double amount, const std::string& currency) {
  const double size = std::abs(amount);
  return size < kSmall ? fmt::format("{:.2g} {}", amount, currency)
                       : fmt::format("{:.{}f} {}", amount, size < 1 ? 3 : 2, currency);
}

std::string format_energy(double joules) {
  constexpr double kJoulesPerKwh = 3.6e6;
  const double kwh = joules / kJoulesPerKwh;
  if (kwh < kSmall) return fmt::format("{:.2g} kWh", kwh);
  return kwh < 1000 ? fmt::format("{:.2f} kWh", kwh) : fmt::format("{:.2f} MWh", kwh / 1000);
}

std::string format_utc(double unix_seconds) {
  constexpr double kYear10000 = 253402300800;
  if (!(std::abs(unix_seconds) < kYear10000)) return "unknown";
  const auto time = static_cast<std::time_t>(std::floor(unix_seconds));
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      text += c == 0 ? fmt::format("{:<{}}", row[c], widths[c]) : fmt::format("  {:>{}}", row[c], widths[c]);
    }
    text += '\n';
  }
  return text;
}

}  // namespace jevons
