#include "trainer/config/findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace jevons {

std::string ConfigPlace::to_string() const {
  return line == 0 ? source : fmt::format("{}:{}:{}", source, line, column);
}

void Findings::add(const ConfigPlace& place, const std::string& message) {
  messages_.push_back(fmt::format("{}: {}", place.to_string(), message));
}

void Findings::add_for(const std::string& key, const ConfigPlace& place, const std::string& message) {
  add(place, message);
  bad_.insert(key);
}

bool Findings::is_good(std::string_view key) const {
  const auto is_inside = [](std::string_view inner, std::string_view outer) {
    return inner.starts_with(outer) && (inner.size() == outer.size() || inner[outer.size()] == '.');
  };
  return std::none_of(bad_.begin(), bad_.end(),
                      [&](const std::string& bad) { return is_inside(key, bad) || is_inside(bad, key); });
}

void Findings::throw_if_any() const {
  if (messages_.empty()) return;
  const std::size_t shown = std::min(messages_.size(), kMaxShown);
  std::string text = fmt::format("{}", fmt::join(messages_.begin(), messages_.begin() + shown, "\n"));
  if (shown < messages_.size()) text += fmt::format("\n... and {} more", messages_.size() - shown);
  throw Error(ExitCode::kUsage, text);
}

void Findings::forget_inside(const std::string& key) {
  std::erase_if(places_, [&](const auto& entry) { return entry.first.starts_with(key + "."); });
}

ConfigPlace Findings::place_of(const std::string& key) const {
  const auto it = places_.find(key);
  return it == places_.end() ? ConfigPlace{source_} : it->second;
}

}  // namespace jevons
