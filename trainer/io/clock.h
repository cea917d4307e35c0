#pragma once

#include <chrono>
#include <optional>

namespace jevons {

// Seconds since 1970, UTC, by the wall clock, which may be set back and forth.
inline double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// So many seconds (>= 0) after `start`; nothing if that is later than the clock will ever say.
inline std::optional<std::chrono::steady_clock::time_point> moment_after(
    std::chrono::steady_clock::time_point start, double seconds) {
  constexpr double kCentury = 100 * 365.25 * 86400;  // the clock counts 292 years from some moment of its own
  if (!(seconds < kCentury)) return std::nullopt;
  const std::chrono::duration<double> wait(seconds);
  return start + std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait);
}

}  // namespace jevons
