#include "trainer/config/paths.h"

#include <fmt/format.h>

#include <cctype>

#include "trainer/config/yaml_tree.h"

namespace jevons {
namespace {

// "$HOME" and "${HOME}", not "a$" or "5$".
bool has_variable(std::string_view path) {
  for (std::size_t at = path.find('$'); at != std::string_view::npos; at = path.find('$', at + 1)) {
    const auto next = static_cast<unsigned char>(at + 1 < path.size() ? path[at + 1] : '\0');
    if (std::isalpha(next) || next == '_' || next == '{') return true;
  }
  return false;
}

}  // namespace

std::string unexpanded_in(std::string_view path) {
  const bool home = path.starts_with('~');
  if (!home && !has_variable(path)) return "";
  return fmt::format("\"{}\" {}, which only a shell replaces; write the path out", printable(path),
                     home ? "begins with ~" : "has a variable ($...) in it");
}

}  // namespace jevons
