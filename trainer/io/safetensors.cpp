#include "trainer/io/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "kernels/core/error.h"
#include "trainer/io/box.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using nlohmann::json;

constexpr const char* kMetadataKey = "__metadata__";
// root object > tensor > array: what is nested deeper is not a safetensors header.
constexpr int kMaxJsonDepth = 3;

struct TypeFacts {
  FileDType type;
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array kTypes = {
    TypeFacts{FileDType::kF64, "F64", 8},      TypeFacts{FileDType::kF32, "F32", 4},
    TypeFacts{FileDType::kF16, "F16", 2},      TypeFacts{FileDType::kBF16, "BF16", 2},
    TypeFacts{FileDType::kE4M3, "F8_E4M3", 1}, TypeFacts{FileDType::kE5M2, "F8_E5M2", 1},
    TypeFacts{FileDType::kI64, "I64", 8},      TypeFacts{FileDType::kI32, "I32", 4},
    TypeFacts{FileDType::kI16, "I16", 2},      TypeFacts{FileDType::kI8, "I8", 1},
    TypeFacts{FileDType::kU64, "U64", 8},      TypeFacts{FileDType::kU32, "U32", 4},
    TypeFacts{FileDType::kU16, "U16", 2},      TypeFacts{FileDType::kU8, "U8", 1},
    TypeFacts{FileDType::kBool, "BOOL", 1}};

const TypeFacts& facts_of(FileDType type) {
  return *std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeFacts& f) { return f.type == type; });
}

FileDType file_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return FileDType::kF64;
    case DType::kF32:
      return FileDType::kF32;
    case DType::kBF16:
      return FileDType::kBF16;
    case DType::kI64:
      return FileDType::kI64;
    case DType::kI32:
      return FileDType::kI32;
    case DType::kU8:
      return FileDType::kU8;
  }
  return FileDType::kBool;
}

std::optional<DType> dtype_of_file_type(FileDType type) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI64, DType::kI32, DType::kU8}) {
    if (file_type_of(dtype) == type) return dtype;
  }
  return std::nullopt;
}

// An array of non-negative integers below 2^63.
std::vector<std::int64_t> integers_of(const json& value, const char* what, const std::string& where) {
  if (!value.is_array()) fail(ExitCode::kData, "{}: {} is not a list", where, what);
  std::vector<std::int64_t> numbers;
  for (const json& item : value) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > INT64_MAX) {
      fail(ExitCode::kData, "{}: {} holds something else than a size", where, what);
    }
    numbers.push_back(item.get<std::int64_t>());
  }
  return numbers;
}

FileEntry parse_entry(const std::string& key, const json& value, const std::string& path) {
  const std::string where = fmt::format("{}: tensor '{}'", path, key);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || !value["dtype"].is_string()) {
    fail(ExitCode::kData, "{}: needs exactly dtype, shape and data_offsets", where);
  }
  FileEntry entry;
  entry.key = key;
  const auto& dtype_name = value["dtype"].get_ref<const std::string&>();
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeFacts& facts) { return facts.name == dtype_name; });
  if (type == kTypes.end()) fail(ExitCode::kData, "{}: dtype {} is not supported", where, dtype_name);
  entry.dtype = type->type;
  entry.shape = integers_of(value["shape"], "shape", where);
  const std::vector<std::int64_t> offsets = integers_of(value["data_offsets"], "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail(ExitCode::kData, "{}: data_offsets is not a range", where);
  }
  entry.begin = static_cast<std::uint64_t>(offsets[0]);
  entry.end = static_cast<std::uint64_t>(offsets[1]);
  const std::optional<std::int64_t> numel = checked_numel(entry.shape);
  std::uint64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(static_cast<std::uint64_t>(*numel), type->bytes, &bytes) ||
      bytes != entry.end - entry.begin) {
    fail(ExitCode::kData, "{}: shape and dtype do not fill bytes {} to {}", where, entry.begin, entry.end);
  }
  return entry;
}

std::map<std::string, std::string> parse_metadata(const json& value, const std::string& path) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) fail(ExitCode::kData, "{}: {} is not an object", path, kMetadataKey);
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail(ExitCode::kData, "{}: {}: '{}' is not a string", path, kMetadataKey, key);
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

void check_contiguous(const std::vector<FileEntry>& entries, std::uint64_t data_bytes,
                      const std::string& path) {
  std::uint64_t at = 0;
  for (const FileEntry& entry : entries) {
    if (entry.begin != at) {
      fail(ExitCode::kData, "{}: tensor '{}' begins at byte {} of the data, expected {}", path, entry.key,
           entry.begin, at);
    }
    at = entry.end;
    if (at > data_bytes) {
      fail(ExitCode::kData,
           "{}: tensors take {} bytes but the file has {} after its header: it ends before '{}' does", path,
           entries.back().end, data_bytes, entry.key);
    }
  }
  if (at != data_bytes) {
    fail(ExitCode::kData, "{}: tensors take {} bytes but the file has {} after its header", path, at,
         data_bytes);
  }
}

}  // namespace

std::string_view name_of(FileDType type) {
  return facts_of(type).name;
}

std::size_t size_of(FileDType type) {
  return facts_of(type).bytes;
}

std::uint64_t safetensors_header_bytes(std::span<const std::byte> start, std::uint64_t file_size,
                                       const std::string& path) {
  if (file_size < kSafetensorsPrefix || start.size() < kSafetensorsPrefix) {
    fail(ExitCode::kData, "{}: {} bytes are too few for a safetensors file", path, file_size);
  }
  std::uint64_t length = 0;
  for (std::size_t i = kSafetensorsPrefix; i-- > 0;) {
    length = length << 8 | std::to_integer<std::uint64_t>(start[i]);
  }
  if (length > kMaxSafetensorsHeader || length > file_size - kSafetensorsPrefix) {
    fail(ExitCode::kData, "{}: header claims {} bytes in a file of {}", path, length, file_size);
  }
  return kSafetensorsPrefix + length;
}

FileHeader parse_file_header(std::span<const std::byte> start, std::uint64_t file_size,
                             const std::string& path) {
  const std::uint64_t header_bytes = safetensors_header_bytes(start, file_size, path);
  if (start.size() < header_bytes) fail(ExitCode::kData, "{}: header is cut short", path);
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + kSafetensorsPrefix,
                              header_bytes - kSafetensorsPrefix);
  const json root = parse_strict_json(text, path + ": header", kMaxJsonDepth);
  if (!root.is_object()) fail(ExitCode::kData, "{}: header is not a JSON object", path);
  FileHeader header;
  header.data_begin = header_bytes;
  for (const auto& [key, value] : root.items()) {
    if (key == kMetadataKey) {
      header.metadata = parse_metadata(value, path);
    } else {
      header.entries.push_back(parse_entry(key, value, path));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const FileEntry& a, const FileEntry& b) {
    return std::tie(a.begin, a.end, a.key) < std::tie(b.begin, b.end, b.key);
  });
  check_contiguous(header.entries, file_size - header_bytes, path);
  return header;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_size,
                                           const std::string& path) {
  FileHeader file = parse_file_header(start, file_size, path);
  SafetensorsHeader header;
  header.metadata = std::move(file.metadata);
  for (FileEntry& entry : file.entries) {
    const std::optional<DType> dtype = dtype_of_file_type(entry.dtype);
    if (!dtype) {
      fail(ExitCode::kData, "{}: tensor '{}': dtype {} is not supported", path, entry.key,
           name_of(entry.dtype));
    }
    header.entries.push_back({std::move(entry.key), *dtype, std::move(entry.shape), entry.begin, entry.end});
  }
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  json root = json::object();
  if (!header.metadata.empty()) root[kMetadataKey] = header.metadata;
  for (const SafetensorsEntry& entry : header.entries) {
    root[entry.key] = {{"dtype", name_of(file_type_of(entry.dtype))},
                       {"shape", entry.shape},
                       {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = root.dump();
  text.append((kSafetensorsPrefix - text.size() % kSafetensorsPrefix) % kSafetensorsPrefix, ' ');
  std::string bytes;
  for (std::size_t i = 0; i < kSafetensorsPrefix; ++i) {
    bytes += static_cast<char>(text.size() >> (8 * i) & 0xff);
  }
  return bytes + text;
}

}  // namespace jevons
