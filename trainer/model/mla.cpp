#include "trainer/model/mla.h"

#include <cmath>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/head_copy.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

namespace jevons {
namespace {

// That of the latents' norms, whatever the model's other norms have: so the published models were trained.
constexpr float kLatentEps = 1e-6f;

ParamSpec matrix(const ModelConfig& config, std::string name, Shape shape, int tp_dim = -1) {
  return {.name = std::move(name), .shape = shape, .tp_dim = tp_dim, .init_std = config.init_std};
}

ParamId add_norm(ParamStore& store, std::string name, std::int64_t width) {
  return store.add({.name = std::move(name),
                    .shape = {width},
                    .init = InitKind::kOnes,
                    .role = ParamRole::kVector,
                    .keep_f32 = true});
}

// What is read from x, as one matrix.
std::vector<ParamSpec> down_specs(const ModelConfig& config, const std::string& name) {
  const MlaConfig& mla = config.mla;
  std::vector<ParamSpec> parts;
  if (mla.q_lora_rank > 0)
    parts.push_back(matrix(config, name + ".q_a", {mla.q_lora_rank, config.hidden_size}));
  parts.push_back(
      matrix(config, name + ".kv_a", {mla.kv_lora_rank + mla.qk_rope_head_dim, config.hidden_size}));
  return parts;
}

// Each head's part of the up-projections is a matrix of its own.
ParamSpec query_spec(const ModelConfig& config, const std::string& name) {
  const bool latent = config.mla.q_lora_rank > 0;
  const std::int64_t in = latent ? config.mla.q_lora_rank : config.hidden_size;
  ParamSpec spec =
      matrix(config, name + (latent ? ".q_b" : ".q"), {config.num_heads * config.head_dim, in}, 0);
  spec.row_blocks = {config.head_dim};
  return spec;
}

ParamSpec key_value_spec(const ModelConfig& config, const std::string& name) {
  const MlaConfig& mla = config.mla;
  ParamSpec spec = matrix(config, name + ".kv_b",
                          {config.num_heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank}, 0);
  spec.row_blocks = {mla.qk_nope_head_dim, mla.v_head_dim};
  return spec;
}

// Offsets of `groups` groups of `rows` rows.
std::vector<std::int64_t> equal_groups(std::int64_t groups, std::int64_t rows) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t g = 0; g <= groups; ++g) offsets.push_back(g * rows);
  return offsets;
}

}  // namespace

LatentAttention::LatentAttention(ParamStore& store, const ModelConfig& config, const std::string& name,
                                 const RopeTable& rope)
    : store_(&store),
      rope_(&rope),
      gather_(store.mesh().tp()),
      reduce_scatter_(store.mesh().tp()),
      context_(store.mesh().cp()),
      rank_(store.mesh().tp().rank()),
      heads_(config.num_heads / store.mesh().tp().size()),
      plain_(config.mla.qk_nope_head_dim),
      rotated_(config.mla.qk_rope_head_dim),
      values_(config.mla.v_head_dim),
      down_(store, down_specs(config, name)),
      q_norm_(config.mla.q_lora_rank == 0
                  ? std::optional<LatentNorm>()
                  : LatentNorm{add_norm(store, name + ".q_a_norm", config.mla.q_lora_rank), 0,
                               config.mla.q_lora_rank}),
      q_up_(store, {query_spec(config, name)}),
      kv_norm_{add_norm(store, name + ".kv_a_norm", config.mla.kv_lora_rank), config.mla.q_lora_rank,
               config.mla.kv_lora_rank},
      kv_up_(store, {key_value_spec(config, name)}),
      o_(store, {{.name = name + ".o",
                  .shape = {config.hidden_size, config.num_heads * config.mla.v_head_dim},
                  .tp_dim = 1,
                  .init_std = config.output_init_std()}}),
      softmax_scale_(static_cast<float>(softmax_scale(config))) {}

double LatentAttention::score_flops_per_token(std::int64_t length) const {
  return 3 * static_cast<double>(heads_ * (plain_ + rotated_ + values_) * length);
}

Tensor LatentAttention::forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const {
  saved = {};
  saved.sequences = sequences;
  saved.q_kind = q_norm_ ? SavedKind::kCheap : SavedKind::kProduct;
  project_down(keep.products, x, saved);
  project_up(keep, x, saved);
  attend(keep.products, saved);
  const Context dropped = scratch(keep.cheap);
  return reduce_scatter_.forward(dropped, o_.forward(dropped, saved.o.x, saved.o), *dropped.work);
}

void LatentAttention::restore(const Context& ctx, Tensor x, Saved& saved) const {
  const bool nothing_kept = !saved.down_out.defined();
  if (nothing_kept) project_down(ctx, x, saved);
  saved.down.x = x;
  project_up({ctx, ctx, ctx}, x, saved);
  if (nothing_kept) attend(ctx, saved);
}

void LatentAttention::remember(const Context& ctx, const CachePlaces& places, const Saved& saved,
                               Tensor cache) const {
  const std::int64_t latent = kv_norm_.width;
  cache_heads(ctx, places, {saved.kv_up.x, 0, 1, latent}, {cache, 0, 1, latent});
  cache_heads(ctx, places, shared_key(saved.latents), {cache, latent, 1, rotated_});
}

Tensor LatentAttention::decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const {
  ENSURE(gather_.returns_input(), "decoding with tensor parallelism");
  const Context inner = scratch(ctx);
  Saved saved;
  saved.sequences.positions = places.positions;
  project_down(inner, x, saved);
  saved.latents = saved.down_out;
  const Tensor q_in = q_norm_ ? normalise(inner, *q_norm_, saved.latents, saved.q_rstd) : x;
  saved.q = q_up_.forward(inner, q_in, saved.q_up);
  rope_forward(inner, rotated_part(saved.q), rope_->at(places.positions));
  saved.kv_up.x = normalise(inner, kv_norm_, saved.latents, saved.kv_rstd);
  remember(inner, places, saved, cache);
  const std::int64_t latent = kv_norm_.width, columns = cache_columns();
  const Tensor o = inner.work->alloc({x.rows(), heads_ * latent}, x.dtype);
  decode_attention(inner, places,
                   {.q = {query_of_latents(inner, saved.q), 0, heads_, columns},
                    .k = {cache, 0, 1, columns},
                    .v = {cache, 0, 1, latent},
                    .o = {o, 0, heads_, latent},
                    .scale = softmax_scale_});
  return o_.forward(inner, values_of_latents(inner, o), saved.o);
}

Tensor LatentAttention::up_by_head() const {
  return kv_up_.weight().reshape({heads_, plain_ + values_, kv_norm_.width});
}

// The values' rows of each head's matrix meet zeros.
Tensor LatentAttention::query_of_latents(const Context& ctx, Tensor q) const {
  const std::int64_t rows = q.rows(), latent = kv_norm_.width, columns = cache_columns();
  const Tensor by_head = ctx.work->alloc({heads_ * rows, plain_ + values_}, q.dtype),
               wide = ctx.work->alloc({heads_ * rows, latent}, q.dtype),
               out = ctx.work->alloc({rows, heads_ * columns}, q.dtype);
  fill_zero(ctx, by_head);
  heads_to_rows(ctx, plain_part(q), {by_head, 0, 1, plain_});
  grouped_linear_backward_input(ctx, equal_groups(heads_, rows), by_head, up_by_head(), wide);
  rows_to_heads(ctx, {wide, 0, 1, latent}, {out, 0, heads_, latent, columns});
  copy_heads(ctx, rotated_part(q), {out, latent, heads_, rotated_, columns});
  return out;
}

// What the keys' rows of each head's matrix make is left.
Tensor LatentAttention::values_of_latents(const Context& ctx, Tensor o) const {
  const std::int64_t rows = o.rows(), latent = kv_norm_.width;
  const Tensor by_head = ctx.work->alloc({heads_ * rows, latent}, o.dtype),
               wide = ctx.work->alloc({heads_ * rows, plain_ + values_}, o.dtype),
               out = ctx.work->alloc({rows, heads_ * values_}, o.dtype);
  heads_to_rows(ctx, {o, 0, heads_, latent}, {by_head, 0, 1, latent});
  grouped_linear_forward(ctx, equal_groups(heads_, rows), by_head, up_by_head(), wide);
  rows_to_heads(ctx, {wide, plain_, 1, values_}, {out, 0, heads_, values_});
  return out;
}

void LatentAttention::project_down(const Context& ctx, Tensor x, Saved& saved) const {
  saved.down_out = down_.forward(ctx, x, saved.down);
  rope_forward(ctx, shared_key(saved.down_out), own_rotation(saved.sequences));
}

void LatentAttention::project_up(const Keep& keep, Tensor x, Saved& saved) const {
  const Context& cheap = keep.cheap;
  saved.latents = gather_.forward(cheap, saved.down_out, *cheap.stash);
  const Tensor q_in = q_norm_ ? normalise(cheap, *q_norm_, saved.latents, saved.q_rstd)
                              : gather_.forward(cheap, x, *cheap.stash);
  if (saved.q.defined()) {
    saved.q_up.x = q_in;
  } else {
    const Context& queries = q_norm_ ? cheap : keep.products;
    saved.q = q_up_.forward(queries, q_in, saved.q_up);
    rope_forward(queries, rotated_part(saved.q), rope_->at(saved.sequences.positions));
  }
  const Tensor latent = normalise(cheap, kv_norm_, saved.latents, saved.kv_rstd);
  saved.kv = kv_up_.forward(cheap, gather_context(cheap, saved.sequences, latent), saved.kv_up);
  saved.k = cheap.stash->alloc({saved.kv.rows(), saved.q.cols()}, saved.q.dtype);
  copy_heads(cheap, plain_key(saved.kv), plain_part(saved.k));
  const ArenaScope scope(*cheap.work);
  copy_heads(cheap, shared_key_of_context(scratch(cheap), saved), rotated_part(saved.k));
}

Tensor LatentAttention::gather_context(const Context& ctx, const Sequences& sequences, Tensor x) const {
  if (!context_.is_needed()) return x;
  const Tensor y = ctx.stash->alloc({x.rows() * context_.ranks(), x.cols()}, x.dtype);
  context_.forward(ctx, sequences, x, y);
  return y;
}

Tensor LatentAttention::context_backward(const Context& ctx, const Sequences& sequences, Tensor dy) const {
  if (!context_.is_needed()) return dy;
  const Tensor dx = ctx.work->alloc({dy.rows() / context_.ranks(), dy.cols()}, dy.dtype);
  context_.backward(ctx, sequences, dy, dx);
  return dx;
}

// (A, r): the rotated part of every position's key.
HeadView LatentAttention::shared_key_of_context(const Context& ctx, const Saved& saved) const {
  const HeadView own = shared_key(saved.latents);
  if (!context_.is_needed()) return own;
  const Tensor packed = ctx.stash->alloc({saved.latents.rows(), rotated_}, saved.latents.dtype);
  copy_heads(ctx, own, {packed, 0, 1, rotated_});
  return {gather_context(ctx, saved.sequences, packed), 0, 1, rotated_};
}

// Of the gradient (A, H d) of whole keys, into the shared key's columns of d_latents.
void LatentAttention::shared_key_backward(const Context& ctx, const Sequences& sequences, Tensor dk,
                                          Tensor d_latents) const {
  if (!context_.is_needed()) return sum_heads(ctx, rotated_part(dk), shared_key(d_latents));
  const Tensor sum = ctx.work->alloc({dk.rows(), rotated_}, dk.dtype);
  sum_heads(ctx, rotated_part(dk), {sum, 0, 1, rotated_});
  copy_heads(ctx, {context_backward(ctx, sequences, sum), 0, 1, rotated_}, shared_key(d_latents));
}

void LatentAttention::attend(const Context& ctx, Saved& saved) const {
  const std::int64_t rows = saved.q.rows();
  saved.lse = ctx.stash->alloc({rows, heads_}, accumulator_of(saved.q.dtype));
  saved.o.x = ctx.stash->alloc({rows, heads_ * values_}, saved.q.dtype);
  attention_forward(ctx, core_shape(saved), core_saved(saved));
  if (largest_logits_.defined()) take_column_max(ctx, saved.lse, largest_logits_);
}

std::vector<RowFactors> LatentAttention::logit_rows(std::span<const double> factors) const {
  RowFactors q{.weight = q_up_.parts()[0], .rows = {}}, kv{.weight = kv_up_.parts()[0], .rows = {}};
  const auto add = [](RowFactors& to, std::int64_t rows, double factor) {
    to.rows.insert(to.rows.end(), static_cast<std::size_t>(rows), factor);
  };
  for (const double factor : factors) {
    add(q, plain_, std::sqrt(factor)), add(q, rotated_, factor);
    add(kv, plain_, std::sqrt(factor)), add(kv, values_, 1);
  }
  return {std::move(q), std::move(kv)};
}

Tensor LatentAttention::backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales&) const {
  const Tensor dy_full = reduce_scatter_.backward(ctx, dy, *ctx.stash);
  const Tensor d_o = o_.backward_input(ctx, dy_full, saved.o);
  const Tensor dq = ctx.stash->alloc(saved.q.shape, saved.q.dtype),
               d_kv = ctx.stash->alloc(saved.kv.shape, saved.kv.dtype),
               dk = ctx.work->alloc(saved.k.shape, saved.k.dtype);
  attention_backward(ctx, core_shape(saved), core_saved(saved), {d_o, 0, heads_, values_},
                     {.dq = whole(dq), .dk = whole(dk), .dv = value(d_kv)});
  rope_backward(ctx, rotated_part(dq), rope_->at(saved.sequences.positions));
  // The gradient of down_out becomes that of its product without a copy where nothing is to be summed.
  Arena& latents = gather_.returns_input() ? *ctx.stash : *ctx.work;
  const Tensor d_latents = latents.alloc(saved.latents.shape, saved.latents.dtype);
  copy_heads(ctx, plain_part(dk), plain_key(d_kv));
  shared_key_backward(ctx, saved.sequences, dk, d_latents);
  const Tensor d_latent = kv_up_.backward_input(ctx, d_kv, saved.kv_up);
  denormalise(ctx, kv_norm_, context_backward(ctx, saved.sequences, d_latent), d_latents, saved.latents,
              saved.kv_rstd);
  const Tensor d_q_in = q_up_.backward_input(ctx, dq, saved.q_up);
  if (q_norm_) denormalise(ctx, *q_norm_, d_q_in, d_latents, saved.latents, saved.q_rstd);
  const Tensor d_down = gather_.backward(ctx, d_latents, *ctx.stash);
  rope_backward(ctx, shared_key(d_down), own_rotation(saved.sequences));
  const Tensor dx = down_.backward_input(ctx, d_down, saved.down);
  if (!q_norm_) add(ctx, dx, gather_.backward(ctx, d_q_in, *ctx.work), dx);
  return dx;
}

void LatentAttention::backward_weight(const Context& ctx, const Saved& saved) const {
  o_.backward_weight(ctx, saved.o);
  kv_up_.backward_weight(ctx, saved.kv_up);
  q_up_.backward_weight(ctx, saved.q_up);
  down_.backward_weight(ctx, saved.down);
}

Rotation LatentAttention::own_rotation(const Sequences& sequences) const {
  const std::int64_t rows = sequences.positions.shape[0] / store_->mesh().tp().size();
  return rope_->at(sequences.positions.slice(rank_ * rows, (rank_ + 1) * rows));
}

Tensor LatentAttention::normalise(const Context& ctx, const LatentNorm& norm, Tensor latents,
                                  Tensor& rstd) const {
  const std::int64_t rows = latents.rows();
  const Tensor y = ctx.stash->alloc({rows, norm.width}, latents.dtype);
  rstd = ctx.stash->alloc({rows, 1}, accumulator_of(latents.dtype));
  head_rmsnorm_forward(ctx, norm.of(latents), store_->weight(norm.weight), kLatentEps, {y, 0, 1, norm.width},
                       rstd);
  return y;
}

// Into the norm's columns of d_latents, with the gradient of the norm's weight: of this rank's heads, for all
// rows, so that the sum over tp is whole.
void LatentAttention::denormalise(const Context& ctx, const LatentNorm& norm, Tensor dy, Tensor d_latents,
                                  Tensor latents, Tensor rstd) const {
  head_rmsnorm_backward(ctx, {dy, 0, 1, norm.width}, {norm.of(latents), store_->weight(norm.weight), rstd},
                        norm.of(d_latents), store_->grad(norm.weight));
}

AttentionSaved LatentAttention::core_saved(const Saved& saved) const {
  return {.q = whole(saved.q),
          .k = whole(saved.k),
          .v = value(saved.kv),
          .o = {saved.o.x, 0, heads_, values_},
          .doc_start = saved.sequences.doc_start,
          .lse = saved.lse};
}

AttentionShape LatentAttention::core_shape(const Saved& saved) const {
  return attention_shape(saved.sequences, saved.q.rows(), softmax_scale_);
}

}  // namespace jevons
