#include "trainer/hf/new_directory.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// Without a slash at its end, links resolved as far as it exists.
fs::path plain(const std::string& path) {
  const fs::path whole = fs::weakly_canonical(fs::absolute(path));
  return whole.has_filename() ? whole : whole.parent_path();
}

bool lies_in(const fs::path& path, const fs::path& directory) {
  const auto [left, right] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return left == directory.end();
}

}  // namespace

std::string unfinished_name(const std::string& path) {
  return plain(path).string() + ".unfinished";
}

NewDirectory::NewDirectory(const std::string& path, const std::vector<std::string>& inputs)
    : final_(plain(path).string()), unfinished_(unfinished_name(path)) {
  for (const std::string& input : inputs) {
    if (lies_in(final_, plain(input))) fail(ExitCode::kUsage, "{}: lies in {}, which is read", path, input);
  }
  if (fs::exists(final_) && (!fs::is_directory(final_) || !fs::is_empty(final_))) {
    fail(ExitCode::kUsage, "{}: is there already; nothing is written over it", path);
  }
  if (fs::exists(unfinished_)) {
    fail(ExitCode::kUsage, "{}: is there already, left by a command that was killed or still runs; remove it",
         unfinished_);
  }
  make_directories(unfinished_);
}

NewDirectory::~NewDirectory() {
  std::error_code ignored;
  if (!finished_) fs::remove_all(unfinished_, ignored);
}

void NewDirectory::finish() {
  sync_directory(unfinished_);
  rename_durably(unfinished_, final_);
  finished_ = true;
}

}  // namespace jevons
