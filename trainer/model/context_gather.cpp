#include "trainer/model/context_gather.h"

#include "kernels/moe/permute.h"

namespace jevons {

void ContextGather::forward(const Context& ctx, const Sequences& sequences, Tensor x, Tensor y) const {
  const ArenaScope scope(*ctx.work);
  const Tensor by_rank = ctx.work->alloc(y.shape, y.dtype);
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    cp_->all_gather(x, by_rank).wait();
  }
  gather_rows(ctx, by_rank, sequences.joined, y);
}

void ContextGather::backward(const Context& ctx, const Sequences& sequences, Tensor dy, Tensor dx) const {
  const ArenaScope scope(*ctx.work);
  const Tensor by_rank = ctx.work->alloc(dy.shape, dy.dtype);
  gather_rows(ctx, dy, sequences.dealt, by_rank);
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  cp_->reduce_scatter(by_rank, dx).wait();
}

}  // namespace jevons
