// The tensors of a Hugging Face folder: model.safetensors, or several files and
// model.safetensors.index.json. Headers are read and checked when it is opened, against the index and against
// the files' sizes; tensors are read when they are asked for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/io/safetensors.h"

namespace jevons {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

struct ShardTensor {
  std::string name;
  std::size_t file = 0;  // index into Shards::files()
  FileDType dtype = FileDType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // bytes of the file
};

// File of every tensor, of the text of an index. Throws Error(kData) naming `path`.
std::map<std::string, std::string> parse_index(std::string_view text, const std::string& path);

class Shards {
 public:
  // Throws Error(kData) naming file and tensor: a missing file, one that is cut short, a tensor that is in
  // two files, or in one but not in the index, or the other way round.
  explicit Shards(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::vector<std::string>& files() const { return files_; }  // paths
  const std::map<std::string, ShardTensor>& tensors() const { return tensors_; }
  const ShardTensor* find(const std::string& name) const;  // null: there is none
  // "model.safetensors: tensor 'lm_head.weight'", for messages.
  std::string place_of(const ShardTensor& tensor) const;

 private:
  void add_file(const std::string& path);
  void check_index(const std::map<std::string, std::string>& index, const std::string& path) const;

  std::string directory_;
  std::vector<std::string> files_;
  std::map<std::string, ShardTensor> tensors_;
};

}  // namespace jevons
