// All that one worker trains with: what it runs the model with, gradient sync, optimizer.
#pragma once

#include <memory>
#include <optional>

#include "parallel/grad_reducer.h"
#include "trainer/optim/optimizer.h"
#include "trainer/step/model_worker.h"
#include "trainer/step/qk_clip.h"

namespace jevons {

class Worker final : public ModelWorker {
 public:
  // Collective over `world`. Weights are initialised from config.train.seed; `clock` may be null.
  Worker(const RunConfig& config, Communicator& world, const ComputePlace& place, PhaseClock* clock);

  GradReducer& reducer() { return *reducer_; }
  Optimizer& optimizer() { return *optimizer_; }
  // Nothing unless the configuration says so.
  std::optional<QkClip>& qk_clip() { return qk_clip_; }
  MemoryReport memory() override;

 private:
  std::unique_ptr<GradReducer> reducer_;  // after allocate()
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<QkClip> qk_clip_;
};

}  // namespace jevons
