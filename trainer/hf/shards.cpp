#include "trainer/hf/shards.h"

#include <algorithm>
#include <filesystem>

#include "kernels/core/error.h"
#include "trainer/io/file.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// A name in the folder itself, as they all are.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

FileHeader read_header(const File& file) {
  const std::uint64_t size = file.size();
  std::vector<std::byte> start(std::min(size, kSafetensorsPrefix));
  file.read_at(0, start);
  start.resize(safetensors_header_bytes(start, size, file.path()));
  file.read_at(0, start);
  return parse_file_header(start, size, file.path());
}

}  // namespace

std::map<std::string, std::string> parse_index(std::string_view text, const std::string& path) {
  constexpr int kMostDepth = 4;
  const nlohmann::json root = parse_strict_json(text, path, kMostDepth);
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    fail(ExitCode::kData, "{}: has no weight_map", path);
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : root["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      fail(ExitCode::kData, "{}: tensor '{}' is said to be in {}, which is no file of this folder", path,
           name, file.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    }
    files[name] = file.get<std::string>();
  }
  if (files.empty()) fail(ExitCode::kData, "{}: its weight_map is empty", path);
  return files;
}

Shards::Shards(const std::string& directory) : directory_(directory) {
  const fs::path folder(directory);
  if (fs::exists(folder / kSingleFile)) {
    add_file((folder / kSingleFile).string());
    return;
  }
  const std::string index_path = (folder / kIndexFile).string();
  if (!fs::exists(index_path)) {
    fail(ExitCode::kData, "{}: has neither {} nor {}; other formats of weights are not read", directory,
         kSingleFile, kIndexFile);
  }
  const std::map<std::string, std::string> index = parse_index(read_text_file(index_path), index_path);
  std::map<std::string, std::string> first_tensor;  // of each file, for messages
  for (const auto& [name, file] : index) first_tensor.try_emplace(file, name);
  for (const auto& [file, name] : first_tensor) {
    const std::string path = (folder / file).string();
    if (!fs::exists(path)) {
      fail(ExitCode::kData, "{}: names {} for tensor '{}', which is missing", index_path, file, name);
    }
    add_file(path);
  }
  check_index(index, index_path);
}

void Shards::add_file(const std::string& path) {
  const File file = File::open_read(path);
  const FileHeader header = read_header(file);
  files_.push_back(path);
  for (const FileEntry& entry : header.entries) {
    ShardTensor tensor{entry.key,
                       files_.size() - 1,
                       entry.dtype,
                       entry.shape,
                       header.data_begin + entry.begin,
                       header.data_begin + entry.end};
    const auto [known, is_new] = tensors_.try_emplace(entry.key, std::move(tensor));
    if (!is_new) {
      fail(ExitCode::kData, "{}: tensor '{}' is in {} too", path, entry.key, files_[known->second.file]);
    }
  }
}

void Shards::check_index(const std::map<std::string, std::string>& index, const std::string& path) const {
  for (const auto& [name, file] : index) {
    const ShardTensor* tensor = find(name);
    if (tensor == nullptr || fs::path(files_[tensor->file]).filename() != file) {
      fail(ExitCode::kData, "{}: tensor '{}' is said to be in {}, which does not have it", path, name, file);
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!index.contains(name)) {
      fail(ExitCode::kData, "{}: {} is not in the index", path, place_of(tensor));
    }
  }
}

const ShardTensor* Shards::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string Shards::place_of(const ShardTensor& tensor) const {
  return fmt::format("{}: tensor '{}'", files_[tensor.file], tensor.name);
}

}  // namespace jevons
