#include "trainer/model/block.h"

#include <fmt/core.h>

#include "kernels/elementwise.h"

namespace jevons {
namespace {

std::string layer_name(std::int64_t layer, const char* part) {
  return fmt::format("layers.{}.{}", layer, part);
}

}  // namespace

Block::Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope)
    : attn_norm_(store, layer_name(layer, "attn_norm"), config.hidden_size, config.norm_eps),
      attn_(store, config, layer_name(layer, "attn"), rope),
      ffn_norm_(store, layer_name(layer, "ffn_norm"), config.hidden_size, config.norm_eps),
      recompute_(config.recompute) {
  if (config.is_moe_layer(layer)) {
    moe_.emplace(store, config, layer);
  } else {
    ffn_.emplace(store, config, layer_name(layer, "ffn"), config.ffn_hidden_size);
  }
  const bool one_rank = store.mesh().tp().size() == 1;
  keep_attn_input_ = recompute_ == Recompute::kNone && one_rank;
  keep_ffn_input_ = recompute_ == Recompute::kNone && (one_rank || moe_);
}

Tensor Block::attend(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const {
  Arena& attn_input = keep_attn_input_ ? *ctx.stash : *ctx.work;
  Arena& ffn_input = keep_ffn_input_ ? *ctx.stash : *ctx.work;
  const Tensor n = attn_norm_.forward(ctx, x, attn_input, saved.attn_norm);
  const Tensor a = attn_.forward(ctx, n, sequences, saved.attn);
  const Tensor h = ctx.stash->alloc(x.shape, x.dtype);
  return ffn_norm_.forward_add(ctx, x, a, h, ffn_input, saved.ffn_norm);
}

Tensor Block::forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const {
  const Tensor y = ctx.stash->alloc(x.shape, x.dtype);
  const ArenaScope scope(*ctx.work);
  const bool full = recompute_ == Recompute::kFull;
  const Context inner = full ? scratch(ctx) : ctx;
  const Tensor n = attend(inner, x, sequences, saved);
  const Tensor f = moe_ ? moe_->forward(ctx, n, saved.moe) : ffn_->forward(inner, n, saved.ffn);
  add(ctx, saved.ffn_norm.x, f, y);
  if (full) {
    saved.attn_norm = {.x = x, .rstd = {}};
    saved.attn = {};
    saved.attn.sequences = sequences;
    saved.ffn_norm = {};
    saved.ffn = {};
  }
  return y;
}

void Block::infer(const Context& ctx, Tensor x, const Sequences& sequences) const {
  const ArenaScope scope(*ctx.work);
  const Context inner = scratch(ctx);
  Saved saved;
  const Tensor n = attend(inner, x, sequences, saved);
  const Tensor f = moe_ ? moe_->forward(inner, n, saved.moe) : ffn_->forward(inner, n, saved.ffn);
  add(ctx, saved.ffn_norm.x, f, x);
}

void Block::restore(const Context& ctx, Saved& saved) const {
  if (recompute_ == Recompute::kNone) return;
  Tensor n;
  if (recompute_ == Recompute::kFull) {
    const Sequences sequences = saved.attn.sequences;
    n = attend(scratch(ctx), saved.attn_norm.x, sequences, saved);
  } else {
    attn_.restore(ctx, attn_norm_.again(ctx, *ctx.work, saved.attn_norm), saved.attn);
    n = ffn_norm_.again(ctx, *ctx.work, saved.ffn_norm);
  }
  if (moe_) {
    moe_->restore(ctx, n, saved.moe);
  } else {
    ffn_->restore(ctx, n, saved.ffn);
  }
}

void Block::backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  const ArenaScope scope(*ctx.work);
  restore(ctx, saved);
  const Tensor dn = moe_ ? moe_->backward(ctx, dy, saved.moe, scales) : ffn_->backward(ctx, dy, saved.ffn);
  ffn_norm_.backward_add(ctx, dn, dy, saved.ffn_norm);
  attn_norm_.backward_add(ctx, attn_.backward(ctx, dy, saved.attn), dy, saved.attn_norm);
}

}  // namespace jevons
