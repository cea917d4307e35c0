#include "trainer/model/norm_layer.h"

#include "kernels/norm.h"

namespace jevons {

Norm::Norm(ParamStore& store, const std::string& name, std::int64_t dim, double eps)
    : store_(&store),
      id_(store.add(
          {.name = name, .shape = {dim}, .init = InitKind::kOnes, .decay = false, .keep_f32 = true})),
      eps_(static_cast<float>(eps)) {}

Tensor Norm::forward(const Context& ctx, Tensor x, Saved& saved) const {
  const Tensor y = ctx.stash->alloc(x.shape, x.dtype);
  saved = {.x = x, .rstd = ctx.stash->alloc({x.rows()}, accumulator_of(x.dtype))};
  rmsnorm_forward(ctx, x, store_->weight(id_), eps_, y, saved.rstd);
  return y;
}

Tensor Norm::forward_add(const Context& ctx, Tensor x, Tensor r, Tensor h, Saved& saved) const {
  const Tensor y = ctx.stash->alloc(x.shape, x.dtype);
  saved = {.x = h, .rstd = ctx.stash->alloc({x.rows()}, accumulator_of(x.dtype))};
  add_rmsnorm_forward(ctx, x, r, store_->weight(id_), eps_, h, y, saved.rstd);
  return y;
}

Tensor Norm::backward(const Context& ctx, Tensor dy, Saved& saved) const {
  const Tensor dx = ctx.work->alloc(dy.shape, dy.dtype);
  rmsnorm_backward(ctx, dy, saved.x, store_->weight(id_), saved.rstd, {}, dx, store_->grad(id_));
  return dx;
}

void Norm::backward_add(const Context& ctx, Tensor dy, Tensor d_residual, Saved& saved) const {
  rmsnorm_backward(ctx, dy, saved.x, store_->weight(id_), saved.rstd, d_residual, d_residual,
                   store_->grad(id_));
}

}  // namespace jevons
