#include "trainer/model/lm_head.h"

namespace jevons {

LmHead::LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied)
    : norm_(store, "final_norm", config.hidden_size, config.norm_eps), vocab_(store, config, tied) {}

void LmHead::forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  Arena& normed = vocab_.saves_input() ? *ctx.stash : *ctx.work;
  vocab_.forward(ctx, norm_.forward(ctx, x, normed, saved.norm), targets, loss_sum, saved.vocab);
}

Tensor LmHead::backward(const Context& ctx, double scale, Saved& saved) const {
  const Tensor dx = ctx.work->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  const Context inner = scratch(ctx);
  norm_.backward_add(inner, vocab_.backward_input(inner, scale, saved.vocab), {}, dx, saved.norm);
  vocab_.backward_weight(inner, saved.vocab);
  return dx;
}

Tensor LmHead::backward_input(const Context& ctx, double scale, Saved& saved) const {
  const Tensor dx = ctx.stash->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  norm_.backward_add(ctx, vocab_.backward_input(ctx, scale, saved.vocab), {}, dx, saved.norm);
  return dx;
}

void LmHead::backward_weight(const Context& ctx, const Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  vocab_.backward_weight(ctx, saved.vocab);
}

Tensor LmHead::logits(const Context& ctx, Tensor x) const {
  Norm::Saved dropped;
  return vocab_.logits(ctx, norm_.forward(ctx, x, dropped));
}

}  // namespace jevons
