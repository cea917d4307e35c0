#include "trainer/model/block.h"

#include <fmt/core.h>

#include "kernels/elementwise.h"

namespace jevons {
namespace {

std::string layer_name(std::int64_t layer, const char* part) {
  return fmt::format("layers.{}.{}", layer, part);
}

// What kFull keeps of a block.
Block::Saved only_input(Tensor x, const Sequences& sequences) {
  Block::Saved saved;
  saved.attn_norm.x = x;
  saved.attn.sequences = sequences;
  return saved;
}

}  // namespace

Block::Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope)
    : attn_norm_(store, layer_name(layer, "attn_norm"), config.hidden_size, config.norm_eps),
      attn_(store, config, layer_name(layer, "attn"), rope),
      ffn_norm_(store, layer_name(layer, "ffn_norm"), config.hidden_size, config.norm_eps),
      ffn_(store, config, layer_name(layer, "ffn"), config.ffn_hidden_size),
      recompute_(config.recompute),
      keep_norms_(config.recompute == Recompute::kNone && store.mesh().tp().size() == 1) {}

Tensor Block::attend(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const {
  Arena& norms = keep_norms_ ? *ctx.stash : *ctx.work;
  const Tensor n = attn_norm_.forward(ctx, x, norms, saved.attn_norm);
  const Tensor a = attn_.forward(ctx, n, sequences, saved.attn);
  const Tensor h = ctx.stash->alloc(x.shape, x.dtype);
  return ffn_norm_.forward_add(ctx, x, a, h, norms, saved.ffn_norm);
}

Tensor Block::forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const {
  const Tensor y = ctx.stash->alloc(x.shape, x.dtype);
  const ArenaScope scope(*ctx.work);
  const Context inner = recompute_ == Recompute::kFull ? scratch(ctx) : ctx;
  const Tensor n = attend(inner, x, sequences, saved);
  const Tensor f = ffn_.forward(inner, n, saved.ffn);
  add(ctx, saved.ffn_norm.x, f, y);
  if (recompute_ == Recompute::kFull) saved = only_input(x, sequences);
  return y;
}

void Block::infer(const Context& ctx, Tensor x, const Sequences& sequences) const {
  const ArenaScope scope(*ctx.work);
  Saved saved;
  const Tensor n = attend(scratch(ctx), x, sequences, saved);
  add(ctx, saved.ffn_norm.x, ffn_.forward(scratch(ctx), n, saved.ffn), x);
}

void Block::restore(const Context& ctx, Saved& saved) const {
  if (recompute_ == Recompute::kNone) return;
  if (recompute_ == Recompute::kFull) {
    const Tensor x = saved.attn_norm.x;
    const Sequences sequences = saved.attn.sequences;
    ffn_.restore(ctx, attend(scratch(ctx), x, sequences, saved), saved.ffn);
    return;
  }
  attn_.restore(ctx, attn_norm_.again(ctx, *ctx.work, saved.attn_norm), saved.attn);
  ffn_.restore(ctx, ffn_norm_.again(ctx, *ctx.work, saved.ffn_norm), saved.ffn);
}

void Block::backward(const Context& ctx, Tensor dy, Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  restore(ctx, saved);
  ffn_norm_.backward_add(ctx, ffn_.backward(ctx, dy, saved.ffn), dy, saved.ffn_norm);
  attn_norm_.backward_add(ctx, attn_.backward(ctx, dy, saved.attn), dy, saved.attn_norm);
}

}  // namespace jevons
