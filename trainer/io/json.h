// JSON of values that may be unknown, and JSON from files that nobody vouches for.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace jevons {

// Unknown is null. A number that is not finite is written as null, too.
template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

// Throws Error(kData) for what is no JSON, for two equal keys of one object, of which the library would keep
// the last, and for values nested deeper than `most_depth` (a root object's members have depth 1). `what` is
// for messages: "model.safetensors: header".
nlohmann::json parse_strict_json(std::string_view text, const std::string& what, int most_depth);

}  // namespace jevons
