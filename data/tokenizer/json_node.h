// A value of a JSON file and where it stands, so that every complaint names both.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/core/error.h"

namespace jevons {

// Throws Error(kData) naming the file.
inline nlohmann::json parse_json(std::string_view bytes, const std::string& file) {
  try {
    return nlohmann::json::parse(bytes);
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kData, "{}: not valid JSON: {}", file, error.what());
  }
}

class JsonNode {
 public:
  // `path`: "key.key[3]", empty for the file's own value.
  JsonNode(const nlohmann::json& value, const std::string& file, std::string path = "")
      : value_(&value), file_(&file), path_(std::move(path)) {}

  const nlohmann::json& json() const { return *value_; }
  std::string place() const { return path_.empty() ? *file_ : fmt::format("{}: {}", *file_, path_); }
  [[noreturn]] void refused(const std::string& what) const { fail(ExitCode::kData, "{}: {}", place(), what); }

  bool is_null() const { return value_->is_null(); }
  // A value that may be missing or null is nothing.
  std::optional<JsonNode> find(const std::string& key) const {
    if (!value_->is_object()) refused(fmt::format("expected an object, found {}", value_->type_name()));
    const auto found = value_->find(key);
    if (found == value_->end() || found->is_null()) return std::nullopt;
    return child(*found, key);
  }
  JsonNode at(const std::string& key) const {
    std::optional<JsonNode> found = find(key);
    if (!found) refused(fmt::format("there is no \"{}\"", key));
    return std::move(*found);
  }
  std::size_t size() const {
    if (!value_->is_array()) refused(fmt::format("expected a list, found {}", value_->type_name()));
    return value_->size();
  }
  JsonNode operator[](std::size_t i) const { return {(*value_)[i], *file_, fmt::format("{}[{}]", path_, i)}; }
  // A value of this object, known to be there.
  JsonNode child(const nlohmann::json& value, const std::string& key) const {
    return {value, *file_, path_.empty() ? key : fmt::format("{}.{}", path_, key)};
  }

  const std::string& text() const {
    if (!value_->is_string()) refused(fmt::format("expected a string, found {}", value_->type_name()));
    return value_->get_ref<const std::string&>();
  }
  bool flag() const {
    if (!value_->is_boolean()) refused(fmt::format("expected true or false, found {}", value_->type_name()));
    return value_->get<bool>();
  }
  // A token id.
  std::int32_t id() const {
    constexpr std::int64_t kMost = std::int64_t{1} << 21;
    if (!value_->is_number_integer() || value_->get<std::int64_t>() < 0 ||
        value_->get<std::int64_t>() >= kMost)
      refused(fmt::format("expected a token id below {}, found {}", kMost, value_->dump().substr(0, 40)));
    return value_->get<std::int32_t>();
  }
  bool flag_or(const std::string& key, bool otherwise) const {
    const std::optional<JsonNode> found = find(key);
    return found ? found->flag() : otherwise;
  }

 private:
  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
};

}  // namespace jevons
