#include "trainer/config/findings.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace jevons {

std::string Place::to_string() const {
  return line == 0 ? source : fmt::format("{}:{}:{}", source, line, column);
}

void Findings::add(const Place& place, const std::string& message) {
  messages_.push_back(fmt::format("{}: {}", place.to_string(), message));
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

Place Findings::place_of(const std::string& key, const Place& otherwise) const {
  const auto it = places_.find(key);
  return it == places_.end() ? otherwise : it->second;
}

}  // namespace jevons
