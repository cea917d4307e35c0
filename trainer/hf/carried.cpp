#include "trainer/hf/carried.h"

#include <array>
#include <filesystem>

#include "kernels/core/error.h"
#include "trainer/hf/hf_config.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlace = "huggingface";
constexpr std::array kNames = {kHfConfigFile,
                               "generation_config.json",
                               "tokenizer.json",
                               "tokenizer_config.json",
                               "special_tokens_map.json",
                               "added_tokens.json",
                               "tokenizer.model",
                               "tekken.json",
                               "qwen.tiktoken",
                               "tiktoken.model",
                               "vocab.json",
                               "merges.txt",
                               "chat_template.jinja",
                               "chat_template.json",
                               "LICENSE",
                               "LICENSE.txt",
                               "LICENSE.md",
                               "NOTICE"};

}  // namespace

std::vector<std::string> carried_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const char* name : kNames) {
    std::error_code ignored;
    if (fs::is_regular_file(fs::path(folder) / name, ignored)) names.emplace_back(name);
  }
  return names;
}

void carry_into(const std::string& folder, const std::string& target) {
  const std::vector<std::string> names = carried_files(folder);
  if (names.empty()) return;
  const fs::path to = fs::path(target) / kPlace;
  make_directories(to.string());
  for (const std::string& name : names) {
    std::error_code error;
    fs::copy_file(fs::path(folder) / name, to / name, fs::copy_options::overwrite_existing, error);
    if (error) fail(ExitCode::kFailure, "{}: cannot copy {}: {}", to.string(), name, error.message());
  }
}

std::string carried_with(const std::string& checkpoint) {
  const fs::path path = fs::absolute(checkpoint).lexically_normal();
  const fs::path own = path.has_filename() ? path : path.parent_path();
  for (const fs::path& place : {own / kPlace, own.parent_path().parent_path() / kPlace}) {
    std::error_code ignored;
    if (fs::is_directory(place, ignored)) return place.string();
  }
  return "";
}

}  // namespace jevons
