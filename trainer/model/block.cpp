#include "trainer/model/block.h"

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

Norm make_norm(ParamStore& store, const ModelConfig& config, std::int64_t layer, const char* name) {
  return {store, fmt::format("layers.{}.{}", layer, name), config.hidden_size, config.norm_eps};
}

// Where the norm before a branch puts its output. A branch that keeps a copy needs it no longer than its
// forward.
template <class Branches>
Arena& input_arena(const Context& cheap, const Branches& branches) {
  const bool kept = std::visit([](const auto& branch) { return branch.saves_input(); }, branches);
  return kept ? *cheap.stash : *cheap.work;
}

[[noreturn]] void fail_without_cache() {
  fail(ExitCode::kFailure, "an attention without a cache in a pass over one");
}

}  // namespace

Block::Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope)
    : attn_norm_(make_norm(store, config, layer, "attn_norm")),
      attn_(make_attention(store, config, layer, rope)),
      ffn_norm_(make_norm(store, config, layer, "ffn_norm")),
      ffn_(make_ffn(store, config, layer)),
      recompute_(config.recompute) {}

Tensor Block::attention_input(const Keep& keep, Tensor x, Saved& saved) const {
  return attn_norm_.forward(keep.products, x, input_arena(keep.cheap, attn_), saved.attn_norm);
}

Tensor Block::ffn_input(const Keep& keep, Tensor x, Tensor attended, Saved& saved) const {
  const Context& ctx = keep.products;
  const Tensor h = ctx.stash->alloc(x.shape, x.dtype);
  return ffn_norm_.forward_add(ctx, x, attended, h, input_arena(keep.cheap, ffn_), saved.ffn_norm);
}

Tensor Block::forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const {
  const Tensor y = ctx.stash->alloc(x.shape, x.dtype);
  const ArenaScope scope(*ctx.work);
  const Keep keep = keep_of(ctx, recompute_);
  saved.sequences = sequences;
  const Tensor attn_in = attention_input(keep, x, saved);
  const Tensor a = visit_branch(attn_, saved.attn, [&](const auto& attention, auto& inner) {
    return attention.forward(keep, attn_in, sequences, inner);
  });
  const Tensor n = ffn_input(keep, x, a, saved);
  const Tensor f = visit_branch(
      ffn_, saved.ffn, [&](const auto& ffn, auto& inner) { return ffn.forward(keep, n, sequences, inner); });
  add(ctx, saved.ffn_norm.x, f, y);
  const auto drop_inner = [&](const auto& branch, auto& inner) {
    drop<std::remove_cvref_t<decltype(branch)>>(inner, recompute_);
  };
  visit_branch(attn_, saved.attn, drop_inner);
  visit_branch(ffn_, saved.ffn, drop_inner);
  if (!outlives_forward(SavedKind::kProduct, recompute_)) {
    saved.attn_norm = {.x = x, .rstd = {}};
    saved.ffn_norm = {};
  }
  return y;
}

template <class Attend>
void Block::infer_around(const Context& ctx, Tensor x, const Sequences& sequences, Attend attend) const {
  const ArenaScope scope(*ctx.work);
  Saved dropped;
  const Keep nothing = keep_of(scratch(ctx), Recompute::kNone);
  const Tensor attn_in = attention_input(nothing, x, dropped);
  const Tensor a = std::visit([&](const auto& attention) { return attend(attention, attn_in); }, attn_);
  const Tensor n = ffn_input(nothing, x, a, dropped);
  const Tensor f = std::visit([&](const auto& ffn) { return jevons::infer(ffn, ctx, n, sequences); }, ffn_);
  add(ctx, dropped.ffn_norm.x, f, x);
}

void Block::infer(const Context& ctx, Tensor x, const Sequences& sequences) const {
  infer_around(ctx, x, sequences, [&](const auto& attention, Tensor attn_in) {
    return jevons::infer(attention, ctx, attn_in, sequences);
  });
}

void Block::prefill(const Context& ctx, Tensor x, const Sequences& sequences, const CachePlaces& places,
                    Tensor cache) const {
  infer_around(ctx, x, sequences, [&]<class A>(const A& attention, Tensor attn_in) -> Tensor {
    if constexpr (!CachedAttention<A>) fail_without_cache();
    typename A::Saved saved;
    const Context inner = scratch(ctx);
    const Tensor a = attention.forward(keep_of(inner, Recompute::kNone), attn_in, sequences, saved);
    if constexpr (CachedAttention<A>) attention.remember(inner, places, saved, cache);
    return a;
  });
}

void Block::decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const {
  const Sequences alone{.length = 1, .positions = places.positions, .doc_start = {}};
  infer_around(ctx, x, alone, [&]<class A>(const A& attention, Tensor attn_in) -> Tensor {
    if constexpr (CachedAttention<A>) return attention.decode(ctx, attn_in, places, cache);
    fail_without_cache();
  });
}

std::optional<std::int64_t> Block::cache_columns() const {
  return std::visit(
      []<class A>(const A& attention) -> std::optional<std::int64_t> {
        if constexpr (CachedAttention<A>) return attention.cache_columns();
        return std::nullopt;
      },
      attn_);
}

double Block::score_flops_per_token(std::int64_t length) const {
  return std::visit(
      [length](const auto& attention) -> double {
        if constexpr (requires { attention.score_flops_per_token(length); }) {
          return attention.score_flops_per_token(length);
        }
        return 0;
      },
      attn_);
}

std::int64_t Block::watched_heads() const {
  return std::visit(
      []<class A>(const A& attention) -> std::int64_t {
        if constexpr (WatchedAttention<A>) return attention.watched_heads();
        return 0;
      },
      attn_);
}

void Block::watch_logits(Tensor largest) {
  std::visit(
      [&]<class A>(A& attention) {
        if constexpr (WatchedAttention<A>) attention.watch_logits(largest);
      },
      attn_);
}

std::vector<RowFactors> Block::logit_rows(std::span<const double> factors) const {
  return std::visit(
      [&]<class A>(const A& attention) -> std::vector<RowFactors> {
        if constexpr (WatchedAttention<A>) return attention.logit_rows(factors);
        return {};
      },
      attn_);
}

void Block::restore(const Context& ctx, Saved& saved) const {
  if (recompute_ == Recompute::kNone) return;
  Tensor n;
  if (saved.ffn_norm.x.defined()) {
    const Tensor attn_input = attn_norm_.again(ctx, input_arena(ctx, attn_), saved.attn_norm);
    visit_branch(attn_, saved.attn,
                 [&](const auto& attention, auto& inner) { attention.restore(ctx, attn_input, inner); });
    n = ffn_norm_.again(ctx, input_arena(ctx, ffn_), saved.ffn_norm);
  } else {
    // The attention's output is needed too, for h.
    const Keep all = {ctx, ctx, ctx};
    const Tensor x = saved.attn_norm.x, attn_in = attention_input(all, x, saved);
    const Tensor a = visit_branch(attn_, saved.attn, [&](const auto& attention, auto& inner) {
      return attention.forward(all, attn_in, saved.sequences, inner);
    });
    n = ffn_input(all, x, a, saved);
  }
  visit_branch(ffn_, saved.ffn, [&](const auto& ffn, auto& inner) { ffn.restore(ctx, n, inner); });
}

void Block::backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  const ArenaScope scope(*ctx.work);
  restore(scratch(ctx), saved);
  const auto through = [&](auto& branch, auto& inner) {
    return jevons::backward(branch, ctx, dy, inner, scales);
  };
  ffn_norm_.backward_add(ctx, visit_branch(ffn_, saved.ffn, through), dy, dy, saved.ffn_norm);
  attn_norm_.backward_add(ctx, visit_branch(attn_, saved.attn, through), dy, dy, saved.attn_norm);
}

Tensor Block::backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  const Tensor dh = ctx.stash->alloc(dy.shape, dy.dtype), dx = ctx.stash->alloc(dy.shape, dy.dtype);
  const ArenaScope scope(*ctx.work);
  restore(ctx, saved);
  const Tensor d_ffn = visit_branch(
      ffn_, saved.ffn, [&](auto& ffn, auto& inner) { return ffn.backward_input(ctx, dy, inner, scales); });
  ffn_norm_.backward_add(ctx, d_ffn, dy, dh, saved.ffn_norm);
  const Tensor d_attn = visit_branch(attn_, saved.attn, [&](auto& attention, auto& inner) {
    return attention.backward_input(ctx, dh, inner, scales);
  });
  attn_norm_.backward_add(ctx, d_attn, dh, dx, saved.attn_norm);
  return dx;
}

void Block::backward_weight(const Context& ctx, Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  const auto weights = [&](const auto& branch, auto& inner) { branch.backward_weight(ctx, inner); };
  visit_branch(ffn_, saved.ffn, weights);
  visit_branch(attn_, saved.attn, weights);
}

}  // namespace jevons
