#include "kernels/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <vector>

#include "kernels/core/error.h"

namespace jevons {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void log_setup(int rank, int world_size, LogLevel level) {
  auto console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  // Other ranks speak on the console only when something is wrong.
  if (rank != 0) console->set_level(spdlog::level::err);
  auto logger = std::make_shared<spdlog::logger>("jevons", console);
  const std::string who = world_size > 1 ? fmt::format(" [rank {}]", rank) : "";
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e" + who + " %l: %v");
  logger->set_level(to_spdlog(level));
  logger->flush_on(spdlog::level::warn);
  spdlog::set_default_logger(logger);
}

void log_to_file(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    auto logger = spdlog::default_logger();
    std::vector<spdlog::sink_ptr> sinks = logger->sinks();
    // A copy keeps the pattern: sinks receive the logger's formatter only when it is cloned.
    sinks.push_back(sink);
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
    logger->sinks() = sinks;
  } catch (const spdlog::spdlog_ex& e) {
    fail(ExitCode::kUsage, "{}: cannot open the log file: {}", path, e.what());
  }
}

void log_write(LogLevel level, const std::string& message) {
  spdlog::log(to_spdlog(level), "{}", message);
}

void log_flush() {
  spdlog::default_logger()->flush();
}

}  // namespace jevons
