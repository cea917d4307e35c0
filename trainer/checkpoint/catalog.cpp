#include "trainer/checkpoint/catalog.h"

#include <charconv>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// 100 for "step-00000100", nothing for other names.
std::optional<std::int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stopped, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stopped != end || step < 0) return std::nullopt;
  return step;
}

}  // namespace

bool is_committed(const fs::path& directory) {
  std::error_code ignored;
  return fs::is_regular_file(directory / kManifestName, ignored);
}

std::map<std::int64_t, fs::path> steps_in(const std::string& dir) {
  std::error_code ignored;
  std::map<std::int64_t, fs::path> by_step;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const std::optional<std::int64_t> step = step_of(entry.path().filename().string());
    if (step) by_step[*step] = entry.path();
  }
  return by_step;
}

std::optional<std::string> latest_checkpoint(const std::string& dir) {
  const std::map<std::int64_t, fs::path> by_step = steps_in(dir);
  for (auto it = by_step.rbegin(); it != by_step.rend(); ++it) {
    if (is_committed(it->second)) return it->second.string();
    log_warning("{}: not a checkpoint, it was never finished (no {}); skipped", it->second.string(),
                kManifestName);
  }
  return std::nullopt;
}

std::string find_checkpoint(const std::string& path) {
  if (is_committed(path)) return path;
  if (const auto newest = latest_checkpoint(path)) return *newest;
  if (const auto newest = latest_checkpoint((fs::path(path) / "checkpoints").string())) return *newest;
  fail(ExitCode::kData, "{}: no checkpoint here, nor in its checkpoints/", path);
}

}  // namespace jevons
