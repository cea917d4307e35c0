#include "trainer/io/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "kernels/core/error.h"
#include "trainer/io/box.h"

namespace jevons {
namespace {

using nlohmann::json;

constexpr const char* kMetadataKey = "__metadata__";
// root object > tensor > array: what is nested deeper is not a safetensors header.
constexpr int kMaxJsonDepth = 3;

constexpr std::array<std::pair<DType, std::string_view>, 6> kDTypeNames = {{
    {DType::kF32, "F32"},
    {DType::kBF16, "BF16"},
    {DType::kF64, "F64"},
    {DType::kI32, "I32"},
    {DType::kI64, "I64"},
    {DType::kU8, "U8"},
}};

std::string_view safetensors_name(DType dtype) {
  for (const auto& [value, name] : kDTypeNames) {
    if (value == dtype) return name;
  }
  return "?";
}

std::optional<DType> dtype_from_safetensors(std::string_view wanted) {
  for (const auto& [value, name] : kDTypeNames) {
    if (name == wanted) return value;
  }
  return std::nullopt;
}

// The JSON library keeps the last of two equal keys; here both are an error, as is deep nesting.
json parse_strict_json(std::string_view text, const std::string& path) {
  std::set<std::string> seen;
  std::string tensor;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxJsonDepth) fail(ExitCode::kData, "{}: header is nested too deeply", path);
    if (event != json::parse_event_t::key) return true;
    const auto& key = parsed.get_ref<const std::string&>();
    if (depth == 1) tensor = key;
    if (!seen.insert(depth == 1 ? key : tensor + '\0' + key).second) {
      fail(ExitCode::kData, "{}: header has the key '{}' twice", path, key);
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& e) {
    fail(ExitCode::kData, "{}: header is not valid JSON: {}", path, e.what());
  }
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

SafetensorsEntry parse_entry(const std::string& key, const json& value, const std::string& path) {
  const std::string where = fmt::format("{}: tensor '{}'", path, key);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || !value["dtype"].is_string()) {
    fail(ExitCode::kData, "{}: needs exactly dtype, shape and data_offsets", where);
  }
  SafetensorsEntry entry;
  entry.key = key;
  const auto& dtype_name = value["dtype"].get_ref<const std::string&>();
  const std::optional<DType> dtype = dtype_from_safetensors(dtype_name);
  if (!dtype) fail(ExitCode::kData, "{}: dtype {} is not supported", where, dtype_name);
  entry.dtype = *dtype;
  entry.shape = integers_of(value["shape"], "shape", where);
  const std::vector<std::int64_t> offsets = integers_of(value["data_offsets"], "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail(ExitCode::kData, "{}: data_offsets is not a range", where);
  }
  entry.begin = static_cast<std::uint64_t>(offsets[0]);
  entry.end = static_cast<std::uint64_t>(offsets[1]);
  const std::optional<std::int64_t> numel = checked_numel(entry.shape);
  std::uint64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(static_cast<std::uint64_t>(*numel), size_of(*dtype), &bytes) ||
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

void check_contiguous(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes,
                      const std::string& path) {
  std::uint64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != at) {
      fail(ExitCode::kData, "{}: tensor '{}' begins at byte {} of the data, expected {}", path, entry.key,
           entry.begin, at);
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    fail(ExitCode::kData, "{}: tensors take {} bytes but the file has {} after its header", path, at,
         data_bytes);
  }
}

}  // namespace

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

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_size,
                                           const std::string& path) {
  const std::uint64_t header_bytes = safetensors_header_bytes(start, file_size, path);
  if (start.size() < header_bytes) fail(ExitCode::kData, "{}: header is cut short", path);
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + kSafetensorsPrefix,
                              header_bytes - kSafetensorsPrefix);
  const json root = parse_strict_json(text, path);
  if (!root.is_object()) fail(ExitCode::kData, "{}: header is not a JSON object", path);
  SafetensorsHeader header;
  for (const auto& [key, value] : root.items()) {
    if (key == kMetadataKey) {
      header.metadata = parse_metadata(value, path);
    } else {
      header.entries.push_back(parse_entry(key, value, path));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.key) < std::tie(b.begin, b.end, b.key);
            });
  check_contiguous(header.entries, file_size - header_bytes, path);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  json root = json::object();
  if (!header.metadata.empty()) root[kMetadataKey] = header.metadata;
  for (const SafetensorsEntry& entry : header.entries) {
    root[entry.key] = {{"dtype", safetensors_name(entry.dtype)},
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
