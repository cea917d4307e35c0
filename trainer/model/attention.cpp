#include "trainer/model/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/head_copy.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

namespace jevons {
namespace {

std::vector<ParamSpec> qkv_specs(const ModelConfig& config, const std::string& name) {
  const auto part = [&](const char* suffix, std::int64_t heads) {
    return ParamSpec{.name = name + suffix,
                     .shape = {heads * config.head_dim, config.hidden_size},
                     .tp_dim = 0,
                     .init_std = config.init_std};
  };
  return {part(".q", config.num_heads), part(".k", config.num_kv_heads), part(".v", config.num_kv_heads)};
}

ParamSpec norm_spec(const std::string& name, std::int64_t dim) {
  return {
      .name = name, .shape = {dim}, .init = InitKind::kOnes, .role = ParamRole::kVector, .keep_f32 = true};
}

}  // namespace

Attention::Attention(ParamStore& store, const ModelConfig& config, const std::string& name,
                     const RopeTable& rope)
    : store_(&store),
      rope_(&rope),
      gather_(store.mesh().tp()),
      reduce_scatter_(store.mesh().tp()),
      context_(store.mesh().cp()),
      qkv_(store, qkv_specs(config, name)),
      o_(store, {{.name = name + ".o",
                  .shape = {config.hidden_size, config.num_heads * config.head_dim},
                  .tp_dim = 1,
                  .init_std = config.output_init_std()}}),
      norm_kind_(config.qk_norm),
      eps_(static_cast<float>(config.norm_eps)),
      softmax_scale_(static_cast<float>(softmax_scale(config))),
      heads_(config.num_heads / store.mesh().tp().size()),
      kv_heads_(config.num_kv_heads / store.mesh().tp().size()),
      head_dim_(config.head_dim) {
  if (norm_kind_ == QkNorm::kNone) return;
  ENSURE(norm_kind_ == QkNorm::kHead || store.mesh().tp().size() == 1, "a QK-norm over all heads with tp {}",
         store.mesh().tp().size());
  const bool whole = norm_kind_ == QkNorm::kHidden;
  qk_norm_ = {.q = store.add(norm_spec(name + ".q_norm", whole ? heads_ * head_dim_ : head_dim_)),
              .k = store.add(norm_spec(name + ".k_norm", whole ? kv_heads_ * head_dim_ : head_dim_))};
}

double Attention::score_flops_per_token(std::int64_t length) const {
  return 6 * static_cast<double>(heads_ * head_dim_ * length);
}

Tensor Attention::forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const {
  saved.sequences = sequences;
  const Tensor x_full = gather_.forward(keep.cheap, x, *keep.cheap.stash);
  saved.qkv_out = qkv_.forward(keep.products, x_full, saved.qkv);
  attend(keep, saved);
  const Context dropped = scratch(keep.cheap);
  return reduce_scatter_.forward(dropped, o_.forward(dropped, saved.o.x, saved.o), *dropped.work);
}

void Attention::attend(const Keep& keep, Saved& saved) const {
  normalise_and_rotate(keep.cheap, saved);
  gather_context(keep.cheap, saved);
  Arena& products = *keep.products.stash;
  const std::int64_t rows = saved.qkv_out.rows();
  saved.lse = products.alloc({rows, heads_}, accumulator_of(saved.qkv_out.dtype));
  saved.o.x = products.alloc({rows, heads_ * head_dim_}, saved.qkv_out.dtype);
  attention_forward(keep.products, core_shape(saved), core_saved(saved));
  if (largest_logits_.defined()) take_column_max(keep.products, saved.lse, largest_logits_);
}

std::vector<RowFactors> Attention::logit_rows(std::span<const double> factors) const {
  const auto group = static_cast<std::size_t>(heads_ / kv_heads_), rows = static_cast<std::size_t>(head_dim_);
  RowFactors q{.weight = qkv_.parts()[0], .rows = {}}, k{.weight = qkv_.parts()[1], .rows = {}};
  for (std::size_t first = 0; first < factors.size(); first += group) {
    const double half = std::sqrt(std::ranges::min(factors.subspan(first, group)));
    q.rows.insert(q.rows.end(), group * rows, half);
    k.rows.insert(k.rows.end(), rows, half);
  }
  return {std::move(q), std::move(k)};
}

void Attention::remember(const Context& ctx, const CachePlaces& places, const Saved& saved,
                         Tensor cache) const {
  const AttentionSaved core = core_saved(saved);
  cache_heads(ctx, places, core.k, cached_key(cache));
  cache_heads(ctx, places, core.v, cached_value(cache));
}

Tensor Attention::decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const {
  ENSURE(gather_.returns_input(), "decoding with tensor parallelism");
  const Context inner = scratch(ctx);
  Saved saved;
  saved.sequences.positions = places.positions;
  saved.qkv_out = qkv_.forward(inner, x, saved.qkv);
  normalise_and_rotate(inner, saved);
  remember(inner, places, saved, cache);
  saved.o.x = inner.work->alloc({x.rows(), heads_ * head_dim_}, x.dtype);
  decode_attention(inner, places,
                   {.q = core_saved(saved).q,
                    .k = cached_key(cache),
                    .v = cached_value(cache),
                    .o = query(saved.o.x),
                    .scale = softmax_scale_});
  return o_.forward(inner, saved.o.x, saved.o);
}

void Attention::restore(const Context& ctx, Tensor x, Saved& saved) const {
  const Tensor x_full = gather_.forward(ctx, x, *ctx.stash);
  if (!saved.qkv_out.defined()) {
    saved.qkv_out = qkv_.forward(ctx, x_full, saved.qkv);
    return attend({ctx, ctx, ctx}, saved);
  }
  saved.qkv.x = x_full;
  if (qk_norm_) normalise_and_rotate(ctx, saved);
  gather_context(ctx, saved);
}

Tensor Attention::backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales&) const {
  const Tensor dy_full = reduce_scatter_.backward(ctx, dy, *ctx.stash);
  const Tensor d_o = o_.backward_input(ctx, dy_full, saved.o);
  const Tensor d_qkv = ctx.stash->alloc(saved.qkv_out.shape, saved.qkv_out.dtype);
  const HeadView dq = query(d_qkv), dk = key(d_qkv);
  attend_backward(ctx, saved, d_o, d_qkv);
  const Rotation rotation = rope_->at(saved.sequences.positions);
  rope_backward(ctx, dq, rotation);
  rope_backward(ctx, dk, rotation);
  if (qk_norm_) denormalise(ctx, norm_unit(dq), norm_unit(dk), saved);
  return gather_.backward(ctx, qkv_.backward_input(ctx, d_qkv, saved.qkv), *ctx.work);
}

void Attention::backward_weight(const Context& ctx, const Saved& saved) const {
  o_.backward_weight(ctx, saved.o);
  qkv_.backward_weight(ctx, saved.qkv);
}

// In place, with the gradients of the norms' weights.
void Attention::denormalise(const Context& ctx, HeadView dq, HeadView dk, const Saved& saved) const {
  head_rmsnorm_backward(ctx, dq, {norm_unit(query(saved.qkv_out)), store_->weight(qk_norm_->q), saved.q_rstd},
                        dq, store_->grad(qk_norm_->q));
  head_rmsnorm_backward(ctx, dk, {norm_unit(key(saved.qkv_out)), store_->weight(qk_norm_->k), saved.k_rstd},
                        dk, store_->grad(qk_norm_->k));
}

HeadView Attention::norm_unit(HeadView heads) const {
  if (norm_kind_ == QkNorm::kHead) return heads;
  return {heads.base, heads.first_col, 1, heads.heads * heads.head_dim};
}

void Attention::normalise_and_rotate(const Context& ctx, Saved& saved) const {
  Tensor rotated = saved.qkv_out;
  if (qk_norm_) {
    const std::int64_t rows = saved.qkv_out.rows();
    const DType stats = accumulator_of(saved.qkv_out.dtype);
    rotated = ctx.stash->alloc({rows, (heads_ + kv_heads_) * head_dim_}, saved.qkv_out.dtype);
    const HeadView q = norm_unit(query(saved.qkv_out)), k = norm_unit(key(saved.qkv_out));
    saved.qk = rotated;
    saved.q_rstd = ctx.stash->alloc({rows, q.heads}, stats);
    saved.k_rstd = ctx.stash->alloc({rows, k.heads}, stats);
    head_rmsnorm_forward(ctx, q, store_->weight(qk_norm_->q), eps_, norm_unit(query(rotated)), saved.q_rstd);
    head_rmsnorm_forward(ctx, k, store_->weight(qk_norm_->k), eps_, norm_unit(key(rotated)), saved.k_rstd);
  }
  const Rotation rotation = rope_->at(saved.sequences.positions);
  rope_forward(ctx, query(rotated), rotation);
  rope_forward(ctx, key(rotated), rotation);
}

void Attention::gather_context(const Context& ctx, Saved& saved) const {
  if (!context_.is_needed()) return;
  const std::int64_t rows = saved.qkv_out.rows(), columns = cache_columns();
  saved.context = ctx.stash->alloc({rows * context_.ranks(), columns}, saved.qkv_out.dtype);
  const ArenaScope scope(*ctx.work);
  const Tensor own = ctx.work->alloc({rows, columns}, saved.qkv_out.dtype);
  copy_heads(ctx, key(rotated(saved)), cached_key(own));
  copy_heads(ctx, value(saved.qkv_out), cached_value(own));
  context_.forward(ctx, saved.sequences, own, saved.context);
}

// d_o (T, H d) -> d_qkv, of rotated q and k.
void Attention::attend_backward(const Context& ctx, const Saved& saved, Tensor d_o, Tensor d_qkv) const {
  const AttentionShape shape = core_shape(saved);
  const AttentionSaved core = core_saved(saved);
  if (!context_.is_needed()) {
    return attention_backward(ctx, shape, core, query(d_o),
                              {.dq = query(d_qkv), .dk = key(d_qkv), .dv = value(d_qkv)});
  }
  const ArenaScope scope(*ctx.work);
  const Tensor d_context = ctx.work->alloc(saved.context.shape, saved.context.dtype),
               own = ctx.work->alloc({d_qkv.rows(), cache_columns()}, d_qkv.dtype);
  attention_backward(ctx, shape, core, query(d_o),
                     {.dq = query(d_qkv), .dk = cached_key(d_context), .dv = cached_value(d_context)});
  context_.backward(ctx, saved.sequences, d_context, own);
  copy_heads(ctx, cached_key(own), key(d_qkv));
  copy_heads(ctx, cached_value(own), value(d_qkv));
}

AttentionSaved Attention::core_saved(const Saved& saved) const {
  const bool gathered = saved.context.defined();
  return {.q = query(rotated(saved)),
          .k = gathered ? cached_key(saved.context) : key(rotated(saved)),
          .v = gathered ? cached_value(saved.context) : value(saved.qkv_out),
          .o = query(saved.o.x),
          .doc_start = saved.sequences.doc_start,
          .lse = saved.lse};
}

AttentionShape Attention::core_shape(const Saved& saved) const {
  return attention_shape(saved.sequences, saved.qkv_out.rows(), softmax_scale_);
}

}  // namespace jevons
