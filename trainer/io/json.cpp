#include "trainer/io/json.h"

#include <set>
#include <vector>

#include "kernels/core/error.h"

namespace jevons {

nlohmann::json parse_strict_json(std::string_view text, const std::string& what, int most_depth) {
  using nlohmann::json;
  std::vector<std::set<std::string>> seen;  // keys so far of each object that is open
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > most_depth) fail(ExitCode::kData, "{} is nested too deeply", what);
    if (event == json::parse_event_t::object_start) seen.emplace_back();
    if (event == json::parse_event_t::object_end) seen.pop_back();
    if (event == json::parse_event_t::key &&
        !seen.back().insert(parsed.get_ref<const std::string&>()).second) {
      fail(ExitCode::kData, "{} has the key '{}' twice", what, parsed.get_ref<const std::string&>());
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& e) {
    fail(ExitCode::kData, "{} is not valid JSON: {}", what, e.what());
  }
}

}  // namespace jevons
