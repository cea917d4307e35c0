// Errors and process exit codes.
// ENSURE(cond, fmt, ...) guards invariants and throws Error(kFailure) with the source place; user mistakes
// are thrown with fail(ExitCode, fmt, ...), whose message must stand alone. Only main() catches. (The name
// CHECK belongs to the test framework.)
#pragma once

#include <fmt/core.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace jevons {

enum class ExitCode : int {
  kOk = 0,
  kUsage = 2,      // command line or configuration
  kData = 65,      // bad data file or checkpoint
  kFailure = 70,   // numerical failure or broken invariant
  kTryAgain = 75,  // stopped early with a checkpoint saved; start the same command again
  kSkipped = 77,   // test skipped
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws Error(code, formatted message).
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void ensure_failed(const char* condition, const std::string& message,
                                std::source_location place);
}  // namespace detail

#define ENSURE(condition, ...)                                                \
  do {                                                                        \
    if (!(condition)) [[unlikely]]                                            \
      ::jevons::detail::ensure_failed(#condition, ::fmt::format(__VA_ARGS__), \
                                      ::std::source_location::current());     \
  } while (false)

}  // namespace jevons
