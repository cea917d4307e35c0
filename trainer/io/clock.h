#pragma once

#include <chrono>

namespace jevons {

// Seconds since 1970, UTC, by the wall clock, which may be set back and forth.
inline double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace jevons
