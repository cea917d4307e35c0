#include "trainer/model/router.h"

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/moe/balance.h"

namespace jevons {

Router::Router(ParamStore& store, const ModelConfig& config, const std::string& name,
               const std::string& dense_counterpart)
    : store_(&store),
      id_(store.add({.name = name,
                     .shape = {config.moe.router.num_experts, config.hidden_size},
                     .init_std = config.init_std,
                     .dense_counterpart = dense_counterpart,
                     .keep_f32 = true})),
      rule_(config.moe.router) {}

void Router::forward(const Context& ctx, Tensor x, Tensor bias, Saved& saved) const {
  const std::int64_t rows = x.rows();
  const DType dtype = accumulator_of(x.dtype);
  saved.logits = ctx.stash->alloc({rows, rule_.num_experts}, dtype);
  saved.out = {.scores = ctx.stash->alloc({rows, rule_.num_experts}, dtype),
               .indices = ctx.stash->alloc({rows, rule_.top_k}, DType::kI32),
               .weights = ctx.stash->alloc({rows, rule_.top_k}, dtype)};
  const ArenaScope scope(*ctx.work);
  linear_forward(ctx, in_accumulator(ctx, x), store_->weight(id_), saved.logits);
  router_forward(ctx, rule_, saved.logits, bias, saved.out);
}

Tensor Router::backward(const Context& ctx, Tensor x, const Gradients& gradients, const Saved& saved) const {
  const Tensor dx = ctx.work->alloc(x.shape, saved.logits.dtype);
  const ArenaScope scope(*ctx.work);
  const Tensor dlogits =
      gradients.scores.defined() ? gradients.scores : ctx.work->alloc(saved.logits.shape, saved.logits.dtype);
  router_backward(ctx, rule_, saved.logits, saved.out, {gradients.weights, gradients.scores, dlogits});
  if (gradients.z_scale != 0) router_z_loss_backward(ctx, saved.logits, gradients.z_scale, dlogits);
  linear_backward_weight(ctx, dlogits, in_accumulator(ctx, x), store_->grad(id_));
  linear_backward_input(ctx, dlogits, store_->weight(id_), dx);
  return dx;
}

Tensor Router::in_accumulator(const Context& ctx, Tensor x) const {
  const DType dtype = accumulator_of(x.dtype);
  if (x.dtype == dtype) return x;
  const Tensor wide = ctx.work->alloc(x.shape, dtype);
  cast(ctx, x, wide);
  return wide;
}

}  // namespace jevons
