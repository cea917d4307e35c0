// Runs a rank's list of actions: passes of micro-batches through its stages.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "parallel/pipeline/action.h"
#include "trainer/model/stage.h"

namespace jevons {

// A micro-batch between its forward on a stage and the end of its backward there.
struct PassInFlight {
  Arena* stash = nullptr;  // its own
  Stage::Saved saved{};
  Tensor y{};   // rows for the stage behind
  Tensor dy{};  // their gradient, come from there
};

// A stage of this rank, and room for as many passes as may be under way (most_in_flight); micro-batch i takes
// passes[i % passes.size()]. Action::stage is the place in the list of stages; neighbours there follow one
// another in the model.
struct StageInFlight {
  Stage* stage = nullptr;
  std::vector<PassInFlight> passes{};
};

// What passes ask and tell. All but `read` and `figures` may be empty.
struct PassHooks {
  // The micro-batch, in ctx.stash.
  std::function<MicroBatch(const Context& ctx, std::int64_t micro_batch)> read;
  // (num_figures) f64, to which a stage with the head adds those of the micro-batch.
  std::function<Tensor(std::int64_t micro_batch)> figures;
  std::function<void(std::int64_t micro_batch, const Stage::Saved& saved)> after_forward{};
  // A stage has added the micro-batch's part to all its gradients.
  std::function<void(std::int64_t micro_batch)> gradients_added{};
  UnitDone unit_done{};  // in the last micro-batch of each stage
};

// ctx.stash is not used; ctx.work and the stashes are reset. Adds to the stores' gradients.
void forward_backward(const Context& ctx, std::span<StageInFlight> stages, std::span<const Action> actions,
                      const LossScales& scales, const PassHooks& hooks);

}  // namespace jevons
