// The header of a safetensors file: 8 bytes little-endian length, then JSON, then the tensors' bytes without
// gaps. Parsing is a pure function that accepts any bytes: it returns a header whose every offset is checked,
// or throws. Source: https://github.com/huggingface/safetensors, section "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
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

// Element types of other programs' files, of which Jevons computes in some.
enum class FileDType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kE4M3,
  kE5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};
std::string_view name_of(FileDType type);  // "F8_E4M3"
std::size_t size_of(FileDType type);       // bytes

struct FileEntry {
  std::string key;
  FileDType dtype = FileDType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // bytes, from the start of the data
};

struct FileHeader {
  std::map<std::string, std::string> metadata;
  std::vector<FileEntry> entries;  // as in SafetensorsHeader
  std::uint64_t data_begin = 0;    // bytes of prefix and JSON
};

// Bytes before the JSON, and the longest JSON that is read.
inline constexpr std::uint64_t kSafetensorsPrefix = 8;
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

// Length of prefix and JSON together, from the file's first bytes. Throws Error(kData); `path` is for
// messages.
std::uint64_t safetensors_header_bytes(std::span<const std::byte> start, std::uint64_t file_size,
                                       const std::string& path);

// `start`: the file's first bytes, at least prefix and JSON. Throws Error(kData) unless the tensors fill the
// rest of the file exactly. Dtypes that Jevons does not have are errors of the second.
FileHeader parse_file_header(std::span<const std::byte> start, std::uint64_t file_size,
                             const std::string& path);
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_size,
                                           const std::string& path);

// Prefix and JSON, padded with spaces so that the data starts at a multiple of 8 bytes. The same header gives
// the same bytes. Keys and metadata must be printable ASCII.
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace jevons
