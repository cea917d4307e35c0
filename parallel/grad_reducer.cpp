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

void GradReducer::gather_weights(const Context& ctx) {
  if (zero_stage_ == 0) return;
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const ParamGroup& group = store_.groups()[g];
    store_.expect_weights(g, group.comm->all_gather_in_place(group.weights), ctx.clock);
  }
}

std::unique_ptr<GradReducer> make_grad_reducer(ParamStore& store, int zero_stage, GradSources sources) {
  if (sources == GradSources::kApart) return std::make_unique<SlotReducer>(store, zero_stage);
  return std::make_unique<BucketReducer>(store, zero_stage);
}

}  // namespace jevons
