#include "parallel/grad_sync.h"

#include <cmath>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/host_view.h"
#include "parallel/host_exchange.h"

namespace jevons {

namespace {

// This rank's shard of a group's flat weights or gradients.
Tensor shard_of(const ParamGroup& group, const Tensor& flat) {
  return flat.slice(group.shard_begin(), group.shard_begin() + group.shard_numel());
}

}  // namespace

GradSync::GradSync(ParamStore& store, int zero_stage)
    : store_(store), zero_stage_(zero_stage), under_way_(store.groups().size()) {
  if (zero_stage != 0 && zero_stage != 1) {
    fail(ExitCode::kUsage, "parallel.zero_stage: must be 0 or 1, is {}", zero_stage);
  }
}

void GradSync::start_group(std::size_t g) {
  const ParamGroup& group = store_.groups()[g];
  ENSURE(!under_way_[g], "gradients of bucket {} are already being summed", g);
  under_way_[g] = zero_stage_ == 0 ? group.comm->all_reduce(group.grads)
                                   : group.comm->reduce_scatter_in_place(group.grads);
}

void GradSync::start_unit(const Context& ctx, std::int64_t unit) {
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::size_t g = 0; g < under_way_.size(); ++g) {
    if (store_.groups()[g].first_unit == unit) start_group(g);
  }
}

void GradSync::start(const Context& ctx) {
  ENSURE(!all_started_, "gradients are already being summed");
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::size_t g = 0; g < under_way_.size(); ++g) {
    if (!under_way_[g]) start_group(g);
  }
  all_started_ = true;
}

void GradSync::finish(const Context& ctx) {
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::optional<Work>& work : under_way_) {
    if (work) work->wait();
    work.reset();
  }
  all_started_ = false;
}

double GradSync::global_norm(const Context& ctx) const {
  // The shards of a group's ranks partition the group, and groups of other tp or ep ranks hold other
  // parameters: so the sum over the world of everyone's shards has each parameter once, also when stage 0
  // holds all sums everywhere.
  const ArenaScope scope(*ctx.work);
  const Tensor sum = ctx.work->alloc({1}, DType::kF64);
  zero_async(ctx.stream, sum);
  for (const ParamGroup& group : store_.groups()) add_sum_of_squares(ctx, shard_of(group, group.grads), sum);
  const double squares = ctx.device == Device::kMeta ? 0 : *host_view(ctx, sum).ptr<double>();
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  return std::sqrt(all_reduce(store_.mesh().world(), squares));
}

void GradSync::gather_weights(const Context& ctx) {
  if (zero_stage_ == 0) return;
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const ParamGroup& group = store_.groups()[g];
    store_.expect_weights(g, group.comm->all_gather_in_place(group.weights), ctx.clock);
  }
}

void GradSync::zero_others(const Context& ctx) {
  for (std::size_t g = 0; g < store_.groups().size(); ++g) {
    const Tensor grads = store_.groups()[g].grads;
    const ShardRange range = update_range(g);
    fill_zero(ctx, grads.slice(0, range.begin));
    fill_zero(ctx, grads.slice(range.begin + range.numel, grads.numel()));
  }
}

ShardRange GradSync::update_range(std::size_t group) const {
  const ParamGroup& g = store_.groups()[group];
  return zero_stage_ == 0 ? ShardRange{0, g.numel} : ShardRange{g.shard_begin(), g.shard_numel()};
}

}  // namespace jevons
