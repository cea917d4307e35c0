#include "trainer/model/norm.h"

#include "kernels/norm.h"

namespace jevons {

Norm::Norm(ParamStore& store, const std::string& name, std::int64_t dim, double eps)
    : store_(&store),
      id_(store.add({.name = name,
                     .shape = {dim},
                     .init = InitKind::kOnes,
                     .role = ParamRole::kVector,
                     .keep_f32 = true})),
      eps_(static_cast<float>(eps)) {}

Tensor Norm::forward(const Context& ctx, Tensor x, Arena& out, Saved& saved) const {
  saved = {.x = x, .rstd = ctx.stash->alloc({x.rows()}, accumulator_of(x.dtype))};
  return again(ctx, out, saved);
}

Tensor Norm::forward_add(const Context& ctx, Tensor x, Tensor r, Tensor h, Arena& out, Saved& saved) const {
  saved = {.x = h, .rstd = ctx.stash->alloc({x.rows()}, accumulator_of(x.dtype))};
  const Tensor y = out.alloc(x.shape, x.dtype);
  add_rmsnorm_forward(ctx, x, r, store_->weight(id_), eps_, {h, y, saved.rstd});
  return y;
}

Tensor Norm::again(const Context& ctx, Arena& out, Saved& saved) const {
  const Tensor y = out.alloc(saved.x.shape, saved.x.dtype);
  rmsnorm_forward(ctx, saved.x, store_->weight(id_), eps_, y, saved.rstd);
  return y;
}

Tensor Norm::backward_input(const Context& ctx, Tensor dy, Saved& saved) const {
  const Tensor dx = ctx.work->alloc(dy.shape, dy.dtype);
  backward_add(ctx, dy, {}, dx, saved);
  return dx;
}

void Norm::backward_add(const Context& ctx, Tensor dy, Tensor d_residual, Tensor dx,
                        const Saved& saved) const {
  rmsnorm_backward(ctx, dy, {saved.x, store_->weight(id_), saved.rstd}, d_residual, dx, store_->grad(id_));
}

}  // namespace jevons
