#include "parallel/bucket_reducer.h"

#include <cmath>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/host_view.h"
#include "parallel/host_exchange.h"

namespace jevons {

BucketReducer::BucketReducer(ParamStore& store, int zero_stage)
    : GradReducer(store, zero_stage), under_way_(store.groups().size()) {}

void BucketReducer::begin(std::int64_t) {}

void BucketReducer::end_pass(const Context&, std::int64_t, UnitRange) {}

void BucketReducer::start_group(std::size_t g) {
  const ParamGroup& group = store().groups()[g];
  ENSURE(!under_way_[g], "gradients of bucket {} are already being summed", g);
  under_way_[g] = zero_stage() == 0 ? group.comm->all_reduce(group.grads)
                                    : group.comm->reduce_scatter_in_place(group.grads);
}

void BucketReducer::start_unit(const Context& ctx, std::int64_t unit) {
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  for (std::size_t g = 0; g < under_way_.size(); ++g) {
    if (store().groups()[g].first_unit == unit) start_group(g);
  }
}

void BucketReducer::finish_groups(const Context&) {
  for (std::size_t g = 0; g < under_way_.size(); ++g) {
    if (!under_way_[g]) start_group(g);
  }
  for (std::optional<Work>& work : under_way_) {
    work->wait();
    work.reset();
  }
}

double BucketReducer::global_norm(const Context& ctx) const {
  const ArenaScope scope(*ctx.work);
  const Tensor sum = ctx.work->alloc({1}, DType::kF64);
  zero_async(ctx.stream, sum);
  for (const ParamGroup& group : store().groups()) {
    if (group.tie != Tie::kCopy) add_sum_of_squares(ctx, shard_of_grads(group), sum);
  }
  const double squares = ctx.device == Device::kMeta ? 0 : *host_view(ctx, sum).ptr<double>();
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  return std::sqrt(all_reduce(store().mesh().world(), squares));
}

}  // namespace jevons
