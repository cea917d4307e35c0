#include "trainer/optim/optimizer.h"

#include "kernels/core/profile_range.h"
#include "kernels/elementwise.h"

namespace jevons {

Optimizer::Optimizer(ParamStore& store, const GradReducer& reducer, const OptimConfig& config)
    : store_(store), rule_(make_update_rule(config)) {
  const DType wide = accumulator_of(store.compute());
  auto make = [&](std::int64_t numel) {
    buffers_.emplace_back(store.device(), static_cast<std::size_t>(numel) * size_of(wide));
    return buffers_.back().view(0, {numel}, wide);
  };
  for (const char* name : rule_->state_names()) prefixes_.push_back(std::string("optim.") + name + ".");
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const ParamGroup& group = store.groups()[g];
    GroupState state;
    state.range = reducer.update_range(g);
    const FlatRange& r = state.range;
    state.master = group.weights.dtype == wide ? group.weights.slice(r.begin, r.end()) : make(r.numel);
    for (std::size_t i = 0; i < prefixes_.size(); ++i) state.state.push_back(make(r.numel));
    states_.push_back(std::move(state));
    runs_.push_back(runs_of(g));
  }
}

std::vector<Optimizer::Run> Optimizer::runs_of(std::size_t group) const {
  std::vector<Run> runs;
  for (const ParamPiece& piece : store_.pieces(group, states_[group].range)) {
    const bool decay = store_.params()[piece.id].spec.role != ParamRole::kVector;
    if (!runs.empty() && runs.back().end == piece.begin && runs.back().decay == decay) {
      runs.back().end = piece.end;
    } else {
      runs.push_back({piece.begin, piece.end, decay});
    }
  }
  return runs;
}

void Optimizer::adopt_weights(const Context& ctx) {
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const Tensor weights = store_.groups()[g].weights;
    if (weights.dtype == s.master.dtype) continue;
    cast(ctx, weights.slice(s.range.begin, s.range.end()), s.master);
  }
}

void Optimizer::publish_weights(const Context& ctx) const {
  store_.await_weights();
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const Tensor weights = store_.groups()[g].weights;
    if (weights.dtype == s.master.dtype) continue;
    cast(ctx, s.master, weights.slice(s.range.begin, s.range.end()));
  }
}

void Optimizer::step(const Context& ctx, const UpdateStep& step) {
  const ProfileRange range("optimizer");
  store_.await_weights();
  std::vector<Tensor> state(prefixes_.size());
  for (std::size_t g = 0; g < states_.size(); ++g) {
    const GroupState& s = states_[g];
    const ParamGroup& group = store_.groups()[g];
    for (const Run& run : runs_[g]) {
      const std::int64_t a = run.begin - s.range.begin, b = run.end - s.range.begin;
      for (std::size_t i = 0; i < state.size(); ++i) state[i] = s.state[i].slice(a, b);
      rule_->update(ctx, step,
                    {.master = s.master.slice(a, b),
                     .grad = group.grads.slice(run.begin, run.end),
                     .weight = group.weights.slice(run.begin, run.end),
                     .state = state,
                     .decay = run.decay});
    }
  }
}

std::size_t Optimizer::bytes() const {
  std::size_t sum = 0;
  for (const Buffer& b : buffers_) sum += b.bytes();
  return sum;
}

}  // namespace jevons
