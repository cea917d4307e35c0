#include "parallel/pipeline/action.h"

#include <fmt/core.h>

#include <algorithm>

namespace jevons {

std::string to_text(const Action& action) {
  return fmt::format("{}{}.{}", kActionLetters[static_cast<std::size_t>(action.kind)], action.stage,
                     action.micro_batch);
}

std::string to_text(std::span<const Action> actions) {
  std::string text;
  bool second = false;  // of a pair
  for (const Action& action : actions) {
    if (!text.empty()) text += second ? '|' : ' ';
    if (action.with_next) text += '(';
    text += to_text(action);
    if (second) text += ')';
    second = action.with_next;
  }
  return text;
}

std::int64_t most_in_flight(std::span<const Action> actions, std::int64_t stage) {
  std::int64_t now = 0, most = 0;
  for (const Action& action : actions) {
    if (action.stage != stage) continue;
    if (action.kind == ActionKind::kForward) most = std::max(most, ++now);
    if (frees_pass(action.kind)) --now;
  }
  return most;
}

}  // namespace jevons
