#include "trainer/model/forward_backward.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "kernels/core/whereabouts.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

PassInFlight& pass_of(StageInFlight& stage, std::int64_t micro_batch) {
  return stage.passes[static_cast<std::size_t>(micro_batch) % stage.passes.size()];
}

// The gradient of the stage's input becomes that of the result of the stage before, in that one's stash: this
// one's memory goes to other passes.
void hand_back(const Context& ctx, std::span<StageInFlight> stages, const Action& action, Tensor dx) {
  if (action.stage == 0) return;
  PassInFlight& before = pass_of(stages[static_cast<std::size_t>(action.stage - 1)], action.micro_batch);
  before.dy = before.stash->alloc(dx.shape, dx.dtype);
  copy(ctx, dx, before.dy);
}

// Of each stage.
std::vector<std::int64_t> last_micro_batches(std::span<const Action> actions, std::size_t stages) {
  std::vector<std::int64_t> last(stages, -1);
  for (const Action& action : actions) {
    const auto at = static_cast<std::size_t>(action.stage);
    ENSURE(at < stages, "no stage {} on this rank", action.stage);
    last[at] = std::max(last[at], action.micro_batch);
  }
  return last;
}

}  // namespace

void forward_backward(const Context& outer, std::span<StageInFlight> stages, std::span<const Action> actions,
                      const LossScales& scales, const PassHooks& hooks) {
  const std::vector<std::int64_t> last = last_micro_batches(actions, stages.size());
  for (const Action& action : actions) {
    const auto at = static_cast<std::size_t>(action.stage);
    Stage& stage = *stages[at].stage;
    const std::int64_t i = action.micro_batch;
    PassInFlight& pass = pass_of(stages[at], i);
    Context ctx = outer;
    ctx.stash = pass.stash;
    ctx.work->reset();
    if (ctx.whereabouts != nullptr) ctx.whereabouts->micro_batch(i);
    const UnitDone done = i == last[at] ? hooks.unit_done : UnitDone{};
    switch (action.kind) {
      case ActionKind::kForward: {
        pass.stash->reset();
        const Tensor x = at > 0 ? pass_of(stages[at - 1], i).y : Tensor{};
        const Tensor figures = stage.range().head ? hooks.figures(i) : Tensor{};
        pass.y = stage.forward(ctx, hooks.read(ctx, i), figures, pass.saved, x);
        if (hooks.after_forward) hooks.after_forward(i, pass.saved);
        break;
      }
      case ActionKind::kBackward:
        hand_back(ctx, stages, action, stage.backward(ctx, pass.saved, scales, done, pass.dy));
        break;
      case ActionKind::kBackwardInput:
        hand_back(ctx, stages, action, stage.backward_input(ctx, pass.saved, scales, pass.dy));
        break;
      case ActionKind::kBackwardWeight:
        stage.backward_weight(ctx, pass.saved, done);
        break;
    }
    const bool added = action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight;
    if (added && hooks.gradients_added) hooks.gradients_added(i);
  }
}

}  // namespace jevons
