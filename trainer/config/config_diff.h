// What differs between two configurations, key by key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace jevons {

struct ConfigChange {
  std::string key;            // "model.moe.top_k", "data.train.1.path"
  std::string before, after;  // as YAML; "(absent)" for elements that only one list has

  std::string to_string() const { return key + ": " + before + " -> " + after; }
  bool operator==(const ConfigChange&) const = default;
};

// Both as RunConfig::to_yaml writes them; an option that one text does not name has its default. In the order
// of the keys. Throws Error(kUsage) if a text is no configuration; `source` names the first one in messages.
std::vector<ConfigChange> diff_run_configs(std::string_view before, const std::string& source,
                                           std::string_view after);

}  // namespace jevons
