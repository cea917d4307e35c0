#include "parallel/region.h"

#include "kernels/core/error.h"

namespace jevons {

namespace {

Tensor gather_rows_of(const Context& ctx, Communicator& group, Tensor shard, Arena& out) {
  if (group.size() == 1) return shard;
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  const Tensor whole = out.alloc({shard.shape[0] * group.size(), shard.cols()}, shard.dtype);
  group.all_gather(shard, whole).wait();
  return whole;
}

Tensor sum_and_split_rows(const Context& ctx, Communicator& group, Tensor partial, Arena& out) {
  if (group.size() == 1) return partial;
  ENSURE(partial.shape[0] % group.size() == 0, "{} rows do not split over {} ranks of {}", partial.shape[0],
         group.size(), group.name());
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  const Tensor shard = out.alloc({partial.shape[0] / group.size(), partial.cols()}, partial.dtype);
  group.reduce_scatter(partial, shard).wait();
  return shard;
}

}  // namespace

Tensor Gather::forward(const Context& ctx, Tensor x_shard, Arena& out) const {
  return gather_rows_of(ctx, *group_, x_shard, out);
}
Tensor Gather::backward(const Context& ctx, Tensor dy_partial, Arena& out) const {
  return sum_and_split_rows(ctx, *group_, dy_partial, out);
}

Tensor ReduceScatter::forward(const Context& ctx, Tensor x_partial, Arena& out) const {
  return sum_and_split_rows(ctx, *group_, x_partial, out);
}
Tensor ReduceScatter::backward(const Context& ctx, Tensor dy_shard, Arena& out) const {
  return gather_rows_of(ctx, *group_, dy_shard, out);
}

}  // namespace jevons
