#include "trainer/step/worker.h"

namespace jevons {

Worker::Worker(const RunConfig& config, Communicator& world, const ComputePlace& place, PhaseClock* clock)
    : ModelWorker(config, world, place, clock) {
  const bool by_slot = config.numerics == Numerics::kLayoutInvariant;
  with_memory_report([&] {
    const GradSources sources = by_slot ? GradSources::kApart : GradSources::kSummed;
    store().allocate(sources);
    store().initialize(config.train.seed, ctx().threads);
    reducer_ = make_grad_reducer(store(), config.parallel.zero_stage, sources);
    optimizer_ = std::make_unique<Optimizer>(store(), *reducer_, config.optim, config.train.seed);
    optimizer_->adopt_weights(ctx());
    if (config.optim.qk_clip > 0) qk_clip_.emplace(stages().blocks(), store(), config.optim.qk_clip);
  });
}

// Of what there is: the constructor may run out of memory.
MemoryReport Worker::memory() {
  MemoryReport report = ModelWorker::memory();
  if (reducer_) report.weights_and_grads += reducer_->bytes();
  if (optimizer_) report.optimizer = optimizer_->bytes();
  return report;
}

}  // namespace jevons
