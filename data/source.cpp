#include "data/source.h"

#include <algorithm>
#include <filesystem>

#include "data/glob.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

bool is_token_file_name(const std::string& path) {
  return (path.ends_with(".bin") || path.ends_with(".idx")) && !std::filesystem::is_directory(path);
}

// Both files of a pair name the same tokens.
std::vector<std::string> without_twins(std::vector<std::string> paths) {
  for (std::string& path : paths)
    if (path.ends_with(".idx")) path.replace(path.size() - 4, 4, ".bin");
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

}  // namespace

std::vector<std::string> token_files_of(const std::string& path) {
  if (!is_pattern(path) || token_file_exists(path)) return {path};
  std::vector<std::string> found;
  for (const std::string& pattern : {path, path + ".bin"}) {
    for (std::string& match : paths_matching(pattern)) {
      if (is_token_file_name(match)) found.push_back(std::move(match));
    }
  }
  if (found.empty()) {
    fail(ExitCode::kData, "'{}' matches no token file: nothing that ends in .bin or .idx as '{}'", path,
         std::filesystem::absolute(path).string());
  }
  return without_twins(std::move(found));
}

void Source::add(TokenRange range) {
  ends_.push_back(samples() + range.samples());
  ranges_.push_back(std::move(range));
}

std::int64_t Source::tokens() const {
  std::int64_t sum = 0;
  for (const TokenRange& range : ranges_) sum += range.end - range.begin;
  return sum;
}

Source::Place Source::place_of(std::int64_t sample) const {
  ENSURE(sample >= 0 && sample < samples(), "{}: sample {} of {}", path_, sample, samples());
  const auto range = std::upper_bound(ends_.begin(), ends_.end(), sample);
  const std::int64_t before = range == ends_.begin() ? 0 : *(range - 1);
  return {static_cast<std::size_t>(range - ends_.begin()), sample - before};
}

}  // namespace jevons
