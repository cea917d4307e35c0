#include "parallel/grad_reducer.h"

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "parallel/bucket_reducer.h"
#include "parallel/slot_reducer.h"

namespace jevons {

GradReducer::GradReducer(ParamStore& store, int zero_stage) : store_(store), zero_stage_(zero_stage) {
  ENSURE(zero_stage == 0 || zero_stage == 1, "ZeRO stage {}", zero_stage);
}

Tensor GradReducer::shard_of_grads(const ParamGroup& group) {
  return group.grads.slice(group.shard_begin(), group.shard_begin() + group.shard_numel());
}

FlatRange GradReducer::update_range(std::size_t group) const {
  const ParamGroup& g = store_.groups()[group];
  return zero_stage_ == 0 ? FlatRange{0, g.numel} : FlatRange{g.shard_begin(), g.shard_numel()};
}

void GradReducer::zero_others(const Context& ctx) {
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const Tensor grads = store_.groups()[g].grads;
    const FlatRange range = update_range(g);
    fill_zero(ctx, grads.slice(0, range.begin));
    fill_zero(ctx, grads.slice(range.begin + range.numel, grads.numel()));
  }
}

void GradReducer::finish(const Context& ctx) {
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  finish_groups(ctx);
  add_copies(ctx);
}

// An owner is on the first rank of its pipeline, a copy on another rank on the last one.
void GradReducer::add_copies(const Context& ctx) {
  Communicator& pp = store_.mesh().pp();
  const std::span<ParamGroup> groups = store_.groups();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].tie == Tie::kNone) continue;
    const FlatRange range = update_range(g);
    const Tensor grads = groups[g].grads.slice(range.begin, range.end());
    const std::optional<std::size_t> other = store_.tied_group(g);
    if (groups[g].tie == Tie::kCopy) {
      if (other) continue;
      pp.send(grads, 0).wait();
      fill_zero(ctx, groups[g].grads);
    } else if (other) {
      const Tensor copy = groups[*other].grads;
      add(ctx, grads, copy.slice(range.begin, range.end()), grads);
      fill_zero(ctx, copy);
    } else {
      const ArenaScope scope(*ctx.work);
      const Tensor copy = ctx.work->alloc(grads.shape, grads.dtype);
      pp.recv(copy, pp.size() - 1).wait();
      add(ctx, grads, copy, grads);
    }
  }
}

void GradReducer::send_to_copies() {
  Communicator& pp = store_.mesh().pp();
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const ParamGroup& group = store_.groups()[g];
    if (group.tie == Tie::kNone || store_.tied_group(g)) continue;
    const FlatRange range = update_range(g);
    const Tensor weights = group.weights.slice(range.begin, range.end());
    (group.tie == Tie::kOwner ? pp.send(weights, pp.size() - 1) : pp.recv(weights, 0)).wait();
  }
}

void GradReducer::gather_weights(const Context& ctx) {
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  send_to_copies();
  if (zero_stage_ == 0) return;
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const ParamGroup& group = store_.groups()[g];
    if (!group.weights.defined()) continue;
    store_.expect_weights(g, group.comm->all_gather_in_place(group.weights), ctx.clock);
  }
}

std::unique_ptr<GradReducer> make_grad_reducer(ParamStore& store, int zero_stage, GradSources sources) {
  if (sources == GradSources::kApart) return std::make_unique<SlotReducer>(store, zero_stage);
  return std::make_unique<BucketReducer>(store, zero_stage);
}

}  // namespace jevons
