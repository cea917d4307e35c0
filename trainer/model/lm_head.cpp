#include "trainer/model/lm_head.h"

#include "kernels/elementwise.h"

namespace jevons {

LmHead::LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied)
    : norm_(store, "final_norm", config.hidden_size, config.norm_eps),
      vocab_(store, config, tied),
      keeps_normed_(config.mtp.depth > 0) {}

void LmHead::forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved,
                     Tensor choices) const {
  const ArenaScope scope(*ctx.work);
  Arena& arena = vocab_.saves_input() || keeps_normed_ ? *ctx.stash : *ctx.work;
  const Tensor normed = norm_.forward(ctx, x, arena, saved.norm);
  saved.normed = keeps_normed_ ? normed : Tensor{};
  vocab_.forward(ctx, normed, targets, loss_sum, saved.vocab, choices);
}

void LmHead::backward_norm(const Context& ctx, double scale, Saved& saved, Tensor d_normed, Tensor dx) const {
  const Tensor dn = vocab_.backward_input(ctx, scale, saved.vocab);
  if (d_normed.defined()) add(ctx, dn, d_normed, dn);
  norm_.backward_add(ctx, dn, {}, dx, saved.norm);
}

Tensor LmHead::backward(const Context& ctx, double scale, Saved& saved, Tensor d_normed) const {
  const Tensor dx = d_normed.defined() ? d_normed : ctx.work->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  const Context inner = scratch(ctx);
  backward_norm(inner, scale, saved, d_normed, dx);
  vocab_.backward_weight(inner, saved.vocab);
  return dx;
}

Tensor LmHead::backward_input(const Context& ctx, double scale, Saved& saved, Tensor d_normed) const {
  const Tensor dx = d_normed.defined() ? d_normed : ctx.stash->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  backward_norm(ctx, scale, saved, d_normed, dx);
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
