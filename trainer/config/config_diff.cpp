#include "trainer/config/config_diff.h"

#include "trainer/config/config_file.h"
#include "trainer/config/yaml_writer.h"

namespace jevons {
namespace {

constexpr const char* kAbsent = "(absent)";

}  // namespace

std::vector<ConfigChange> diff_run_configs(std::string_view before, const std::string& source,
                                           std::string_view after) {
  const auto old_values = flat_values(read_run_text(before, source, {}));
  const auto new_values = flat_values(read_run_text(after, "configuration", {}));
  std::vector<ConfigChange> changes;
  auto a = old_values.begin();
  auto b = new_values.begin();
  while (a != old_values.end() || b != new_values.end()) {
    const bool only_old = b == new_values.end() || (a != old_values.end() && a->first < b->first);
    const bool only_new = a == old_values.end() || (b != new_values.end() && b->first < a->first);
    if (only_old) {
      changes.push_back({a->first, a->second, kAbsent});
    } else if (only_new) {
      changes.push_back({b->first, kAbsent, b->second});
    } else if (a->second != b->second) {
      changes.push_back({a->first, a->second, b->second});
    }
    if (!only_new) ++a;
    if (!only_old) ++b;
  }
  return changes;
}

}  // namespace jevons
