#include "kernels/core/output_path.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "kernels/core/error.h"

namespace jevons {

namespace fs = std::filesystem;

void check_output(const OutputPath& output, const std::vector<std::string>& inputs) {
  std::error_code error;
  if (!fs::exists(output.path, error)) return;
  for (const std::string& input : inputs) {
    if (!fs::equivalent(output.path, input, error)) continue;
    fail(ExitCode::kUsage, "{}: is read as an input too ({}); give another output", output.path, input);
  }
  if (fs::is_directory(output.path, error)) {
    fail(ExitCode::kUsage, "{}: is a directory, not {}; give the path of a file", output.path, output.kind);
  }
  const bool is_empty = fs::is_regular_file(output.path, error) && fs::file_size(output.path, error) == 0;
  if (is_empty || output.is_ours(output.path)) return;
  fail(ExitCode::kUsage, "{}: is there and is not {}; it is not replaced. Give another output, or remove it",
       output.path, output.kind);
}

std::string file_head(const std::string& path, std::size_t most) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "";
  std::string head(most, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(most));
  head.resize(static_cast<std::size_t>(file.gcount()));
  return head;
}

bool is_stream(const std::string& path) {
  std::error_code error;
  return fs::is_character_file(path, error) || fs::is_fifo(path, error) || fs::is_socket(path, error);
}

}  // namespace jevons
