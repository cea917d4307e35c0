#include "trainer/optim/optimizer.h"

#include <algorithm>

#include "kernels/core/profile_range.h"
#include "kernels/elementwise.h"
#include "kernels/optimizer.h"

namespace jevons {

Optimizer::Optimizer(ParamStore& store, const GradReducer& reducer, const OptimConfig& config)
    : store_(store), config_(config) {
  const DType wide = accumulator_of(store.compute());
  auto make = [&](std::int64_t numel) {
    buffers_.emplace_back(store.device(), static_cast<std::size_t>(numel) * size_of(wide));
    return buffers_.back().view(0, {numel}, wide);
  };
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const ParamGroup& group = store.groups()[g];
    GroupState state;
    state.range = reducer.update_range(g);
    const ShardRange& r = state.range;
    state.master =
        group.weights.dtype == wide ? group.weights.slice(r.begin, r.begin + r.numel) : make(r.numel);
    if (config.kind == OptimizerKind::kAdamW) state.moment1 = make(r.numel), state.moment2 = make(r.numel);
    states_.push_back(state);
    runs_.push_back(runs_of(g));
  }
}

std::vector<Optimizer::Run> Optimizer::runs_of(std::size_t group) const {
  const ShardRange range = states_[group].range;
  std::vector<Run> runs;
  for (ParamId id = 0; id < store_.params().size(); ++id) {
    if (store_.group_of(id) != group) continue;
    const Param& p = store_.params()[id];
    const std::int64_t begin = std::max(range.begin, p.flat_begin);
    const std::int64_t end = std::min(range.begin + range.numel, p.flat_begin + p.local_shape.numel());
    if (begin >= end) continue;
    if (!runs.empty() && runs.back().end == begin && runs.back().decay == p.spec.decay) {
      runs.back().end = end;
    } else {
      runs.push_back({begin, end, p.spec.decay});
    }
  }
  return runs;
}

void Optimizer::adopt_weights(const Context& ctx) {
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const Tensor weights = store_.groups()[g].weights;
    if (weights.dtype == s.master.dtype) continue;
    cast(ctx, weights.slice(s.range.begin, s.range.begin + s.range.numel), s.master);
  }
}

void Optimizer::publish_weights(const Context& ctx) const {
  store_.await_weights();
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const Tensor weights = store_.groups()[g].weights;
    if (weights.dtype == s.master.dtype) continue;
    cast(ctx, s.master, weights.slice(s.range.begin, s.range.begin + s.range.numel));
  }
}

void Optimizer::step(const Context& ctx, double lr, double grad_scale, std::int64_t step) {
  const ProfileRange range("optimizer");
  store_.await_weights();
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const ParamGroup& group = store_.groups()[g];
    for (const Run& run : runs_[g]) {
      const std::int64_t a = run.begin - s.range.begin, b = run.end - s.range.begin;
      OptimizerRange range{.master = s.master.slice(a, b),
                           .moment1 = {},
                           .moment2 = {},
                           .grad = group.grads.slice(run.begin, run.end),
                           .weight = group.weights.slice(run.begin, run.end)};
      if (config_.kind == OptimizerKind::kSgd) {
        sgd_step(ctx, lr, grad_scale, range);
        continue;
      }
      range.moment1 = s.moment1.slice(a, b), range.moment2 = s.moment2.slice(a, b);
      adamw_step(ctx,
                 {.lr = lr,
                  .beta1 = config_.beta1,
                  .beta2 = config_.beta2,
                  .eps = config_.eps,
                  .weight_decay = run.decay ? config_.weight_decay : 0,
                  .step = step,
                  .grad_scale = grad_scale},
                 range);
    }
  }
}

std::size_t Optimizer::bytes() const {
  std::size_t sum = 0;
  for (const Buffer& b : buffers_) sum += b.bytes();
  return sum;
}

}  // namespace jevons
