#include "trainer/model/linear.h"

#include "kernels/gemm.h"

namespace jevons {

Linear::Linear(ParamStore& store, std::vector<ParamSpec> parts) : store_(&store) {
  for (ParamSpec& part : parts) ids_.push_back(store.add(std::move(part)));
}

Tensor Linear::forward(const Context& ctx, Tensor x, Saved& saved) const {
  const Tensor w = store_->fused_weight(ids_);
  const Tensor y = ctx.stash->alloc({x.rows(), w.shape[0]}, x.dtype);
  linear_forward(ctx, x, w, y);
  saved.x = x;
  return y;
}

Tensor Linear::backward_input(const Context& ctx, Tensor dy, Saved& saved) const {
  saved.dy = dy;
  const Tensor w = store_->fused_weight(ids_);
  const Tensor dx = ctx.work->alloc({dy.rows(), w.shape[1]}, dy.dtype);
  linear_backward_input(ctx, dy, w, dx);
  return dx;
}

void Linear::backward_weight(const Context& ctx, const Saved& saved) const {
  linear_backward_weight(ctx, saved.dy, saved.x, store_->fused_grad(ids_));
}

}  // namespace jevons
