#include "data/glob.h"

#include <glob.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "kernels/core/error.h"

namespace jevons {
namespace {

// glob() has no argument to hand anything to its error handler.
thread_local std::string unreadable;

int stop_at(const char* directory, int error) {
  // What is no directory has no entries; that a pattern reaches below it is no error.
  if (error == ENOENT || error == ENOTDIR) return 0;
  unreadable = fmt::format("cannot read the directory '{}': {}", directory, std::strerror(error));
  return 1;
}

}  // namespace

bool is_pattern(const std::string& path) {
  return path.find_first_of("*?[") != std::string::npos;
}

std::vector<std::string> paths_matching(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, stop_at, &found);
  const std::unique_ptr<glob_t, decltype(&globfree)> owner(&found, &globfree);
  if (result == GLOB_ABORTED) fail(ExitCode::kData, "{}: {}", pattern, unreadable);
  if (result == GLOB_NOSPACE) fail(ExitCode::kFailure, "{}: out of memory", pattern);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace jevons
