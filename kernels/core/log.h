// Logging facade over spdlog, which stays out of this header.
// Every line carries the time and, in a multi-worker run, the rank. Rank 0 also prints to standard error;
// every rank writes its own file once log_to_file has been called. Not for progress lines or results: those
// go to stdout.
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>

namespace jevons {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Call once per process after the rank is known. Messages below `level` are dropped.
void log_setup(int rank, int world_size, LogLevel level);
// Adds a sink: appends every line of this rank to `path`. Throws Error(kUsage) if it cannot be opened.
void log_to_file(const std::string& path);
void log_write(LogLevel level, const std::string& message);
void log_flush();

template <class... Args>
void log_debug(fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::kDebug, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::kInfo, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::kWarning, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::kError, fmt::format(f, std::forward<Args>(args)...));
}

}  // namespace jevons
