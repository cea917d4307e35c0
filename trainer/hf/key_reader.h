// Typed access to the members of a JSON object that remembers which were asked for.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

class KeyReader {
 public:
  // `object` outlives this. `where` is for messages: the path, and the key that holds the object, if any.
  KeyReader(const nlohmann::json& object, std::string where);

  bool has(const std::string& key) const { return object_.contains(key); }  // null or not
  // Null and absent are the same. All throw Error(kData) naming the key if it has another type.
  std::optional<std::int64_t> integer(const std::string& key);
  std::optional<double> number(const std::string& key);
  std::optional<bool> boolean(const std::string& key);
  std::optional<std::string> text(const std::string& key);
  const nlohmann::json* object(const std::string& key);  // null: none
  const nlohmann::json* list(const std::string& key);
  // Throws Error(kData) if it is absent. Sizes are from 1 to 2^40.
  std::int64_t size(const std::string& key);
  std::int64_t size_or(const std::string& key, std::int64_t otherwise);
  // The first of these names that is there.
  std::int64_t size_under(const std::vector<std::string>& names);

  // Throws Error(kData) saying that `key` has a value, or is absent and thus has its default, which is not
  // done here.
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;
  // Unless it is absent, null, false, 0 or "".
  void refuse_unless_off(const std::string& key);

  // Of no importance here.
  void pass_over(std::initializer_list<const char*> keys);
  std::vector<std::string> not_asked_for() const;

  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* find(const std::string& key);
  [[noreturn]] void wrong_type(const std::string& key, const char* wanted) const;

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> asked_;
};

}  // namespace jevons
