// The header of a safetensors file: 8 bytes little-endian length, then JSON, then the tensors' bytes without
// gaps. Parsing is a pure function that accepts any bytes: it returns a header whose every offset is checked,
// or throws. Source: https://github.com/huggingface/safetensors, section "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"

namespace jevons {

struct SafetensorsEntry {
  std::string key;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // bytes, from the start of the data
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry>
      entries;  // ascending by begin; the first begins at 0, each next where one ends
};

// Bytes before the JSON, and the longest JSON that is read.
inline constexpr std::uint64_t kSafetensorsPrefix = 8;
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

// Length of prefix and JSON together, from the file's first bytes. Throws Error(kData); `path` is for
// messages.
std::uint64_t safetensors_header_bytes(std::span<const std::byte> start, std::uint64_t file_size,
                                       const std::string& path);

// `start`: the file's first bytes, at least prefix and JSON. Throws Error(kData) unless the tensors fill the
// rest of the file exactly. Dtypes that Jevons does not have are errors.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_size,
                                           const std::string& path);

// Prefix and JSON, padded with spaces so that the data starts at a multiple of 8 bytes. The same header gives
// the same bytes. Keys and metadata must be printable ASCII.
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace jevons
