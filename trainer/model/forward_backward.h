// Runs a rank's part of a pipeline schedule: passes of micro-batches through its stages, with the messages to
// and from the stages on other ranks. Without a pipeline there is one stage and no message.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/pipeline/lower.h"
#include "trainer/model/stage.h"
#include "trainer/model/stashes.h"

namespace jevons {

// What of a pipeline lies on a rank.
struct PipelineRank {
  struct Place {
    Stage* stage = nullptr;
    std::int64_t number = 0;  // in the model; Action::stage
  };
  std::vector<Place> stages{};
  Stashes* stashes = nullptr;
  // For messages; null where all stages lie here.
  Communicator* pp = nullptr;
  Arena* inbox = nullptr;
  Arena* pair_work = nullptr;     // temporaries of the second action of a pair
  std::int64_t message_rows = 0;  // rows (S) of an activation that crosses stages
};

// What passes ask and tell. All but `read` and `figures` may be empty.
struct PassHooks {
  // The micro-batch, in ctx.stash.
  std::function<MicroBatch(const Context& ctx, std::int64_t micro_batch)> read;
  // (num_figures) f64, to which a stage with the head adds those of the micro-batch.
  std::function<Tensor(std::int64_t micro_batch)> figures;
  std::function<void(const Stage& stage, std::int64_t micro_batch, const Stage::Saved& saved)>
      after_forward{};
  // A stage has added the micro-batch's part to all its gradients.
  std::function<void(const Stage& stage, std::int64_t micro_batch)> gradients_added{};
  UnitDone unit_done{};  // in the last micro-batch of each stage
};

// ctx.stash is not used; ctx.work is reset, and the inbox. Adds to the stores' gradients. The two actions of
// a pair run in turns (kernels/core/turns.h): where one would wait for an expert exchange, the other
// computes.
void forward_backward(const Context& ctx, const PipelineRank& rank, const RankProgram& program,
                      const LossScales& scales, const PassHooks& hooks);

// Forwards that nobody goes back through, of a program of forwards (generate_forward_schedule).
void forward_only(const Context& ctx, const PipelineRank& rank, const RankProgram& program,
                  const PassHooks& hooks);

}  // namespace jevons
