#include "trainer/config/config_diff.h"

#include "trainer/config/config_file.h"
#include "trainer/config/yaml_writer.h"

namespace jevons {
namespace {

constexpr const char* kAbsent = "(absent)";

std::map<std::string, std::string> values_of(std::string_view text, const std::string& source) {
  const RunMessage read = read_run_text(text, source, {});
  read.findings.throw_if_any();
  return flat_values(read.run);
}

}  // namespace

std::vector<ConfigChange> diff_run_configs(std::string_view before, const std::string& source,
                                           std::string_view after) {
  const auto old_values = values_of(before, source);
  const auto new_values = values_of(after, "configuration");
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
