#include "parallel/pipeline/action.h"

#include <algorithm>

namespace jevons {

std::vector<Action> one_stage_schedule(std::int64_t micro_batches) {
  std::vector<Action> actions;
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    actions.push_back({ActionKind::kForward, 0, i});
    actions.push_back({ActionKind::kBackward, 0, i});
  }
  return actions;
}

std::int64_t most_in_flight(std::span<const Action> actions, std::int64_t stage) {
  std::int64_t now = 0, most = 0;
  for (const Action& action : actions) {
    if (action.stage != stage) continue;
    if (action.kind == ActionKind::kForward) most = std::max(most, ++now);
    if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) --now;
  }
  return most;
}

}  // namespace jevons
