// JSON of values that may be unknown.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

namespace jevons {

// Unknown is null. A number that is not finite is written as null, too.
template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

}  // namespace jevons
