#include "trainer/hf/key_reader.h"

#include <cmath>

#include "kernels/core/error.h"

namespace jevons {
namespace {

// As JSON in ASCII, of a length for messages.
std::string shown(const nlohmann::json& value) {
  constexpr std::size_t kMost = 60;
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

}  // namespace

KeyReader::KeyReader(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {}

const nlohmann::json* KeyReader::find(const std::string& key) {
  asked_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void KeyReader::wrong_type(const std::string& key, const char* wanted) const {
  fail(ExitCode::kData, "{}: {} is {}, which is not {}", where_, key, shown(object_.at(key)), wanted);
}

std::optional<std::int64_t> KeyReader::integer(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = !value->is_number_unsigned() || value->get<std::uint64_t>() <= INT64_MAX;
  if (!value->is_number_integer() || !fits) wrong_type(key, "a whole number");
  return value->get<std::int64_t>();
}

std::optional<double> KeyReader::number(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) wrong_type(key, "a number");
  return value->get<double>();
}

std::optional<bool> KeyReader::boolean(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong_type(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> KeyReader::text(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong_type(key, "a text");
  return value->get<std::string>();
}

const nlohmann::json* KeyReader::object(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value != nullptr && !value->is_object()) wrong_type(key, "an object");
  return value;
}

const nlohmann::json* KeyReader::list(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value != nullptr && !value->is_array()) wrong_type(key, "a list");
  return value;
}

std::int64_t KeyReader::size(const std::string& key) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const std::optional<std::int64_t> value = integer(key);
  if (!value) fail(ExitCode::kData, "{}: {} is missing", where_, key);
  if (*value < 1 || *value > kMost) wrong_type(key, "a size");
  return *value;
}

std::int64_t KeyReader::size_or(const std::string& key, std::int64_t otherwise) {
  return find(key) != nullptr ? size(key) : otherwise;
}

std::int64_t KeyReader::size_under(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (find(name) != nullptr) return size(name);
  }
  return size(names.front());
}

void KeyReader::refuse(const std::string& key, const std::string& why) const {
  if (!object_.contains(key)) fail(ExitCode::kData, "{}: {}, which is not given: {}", where_, key, why);
  fail(ExitCode::kData, "{}: {} = {}: {}", where_, key, shown(object_.at(key)), why);
}

void KeyReader::refuse_unless_off(const std::string& key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr || *value == false || *value == 0 || *value == "" ||
      (value->is_array() && value->empty())) {
    return;
  }
  refuse(key, "models with it are not computed here");
}

void KeyReader::pass_over(std::initializer_list<const char*> keys) {
  asked_.insert(keys.begin(), keys.end());
}

std::vector<std::string> KeyReader::not_asked_for() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object_.items()) {
    if (!asked_.contains(key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace jevons
