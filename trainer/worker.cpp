#include "trainer/worker.h"

#include <algorithm>

namespace jevons {
namespace {

DType compute_dtype(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
}

}  // namespace

Worker::Worker(const RunConfig& config, Communicator& world, Device device, PhaseClock* clock)
    : config_(config),
      stash_(device, "stash"),
      work_(device, "work"),
      ctx_{.device = device,
           .compute = compute_dtype(config.train.precision),
           .stash = &stash_,
           .work = &work_,
           .meter = &meter_,
           .clock = clock,
           .threads = std::max(1, config.threads)},
      mesh_(world, config.parallel.layout, layout_limits(config.model)),
      store_(mesh_, device, ctx_.compute),
      model_(store_, config.model) {
  store_.allocate();
  store_.initialize(config.train.seed, ctx_.threads);
  sync_ = std::make_unique<GradSync>(store_, config.parallel.zero_stage);
  optimizer_ = std::make_unique<Optimizer>(store_, *sync_, config.optim);
  optimizer_->adopt_weights(ctx_);
  for (Communicator* c : {&world, &mesh_.dp(), &mesh_.tp(), &mesh_.ep(), &mesh_.edp(), &mesh_.tokens()}) {
    c->set_meter(&meter_);
  }
}

void Worker::reset_arenas() {
  stash_.reset();
  work_.reset();
}

MemoryReport Worker::memory() const {
  return {.weights_and_grads = store_.bytes(),
          .optimizer = optimizer_->bytes(),
          .stash = stash_.peak_bytes(),
          .work = work_.peak_bytes()};
}

}  // namespace jevons
