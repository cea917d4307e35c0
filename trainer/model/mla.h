// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): keys and values are made of one
// narrow latent a token, queries of another or of x; a part of each head is rotated, and that of the key is
// one for all heads. Tensor parallel over heads; the latents are made from a rank's own rows and gathered.
// Context parallel over positions: the normalised latents of keys and values and the keys' rotated part come
// from all cp ranks (context_gather.h), and each makes keys and values of them.
// Legend: T rows of the micro-batch on a cp rank, A = T cp of all, S = T / tp of this rank, D hidden size, H
// heads of this rank; a head of q and k has d = n + r columns (n plain, r rotated), one of v has v; C is
// q_lora + kv_lora + r.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/attention.h"
#include "parallel/region.h"
#include "trainer/model/context_gather.h"
#include "trainer/model/kv_cache.h"
#include "trainer/model/linear.h"
#include "trainer/model/logit_clip.h"
#include "trainer/model/model_config.h"
#include "trainer/model/rope.h"

namespace jevons {

class LatentAttention {
 public:
  struct Saved {
    Sequences sequences;
    Linear::Saved down;      // x (S, D), the branch's input itself
    Tensor down_out;         // (S, C): latents before their norms, and the key's rotated part, rotated
    Tensor latents;          // (T, C): down_out gathered over tp
    Tensor q_rstd, kv_rstd;  // (T, 1)
    Linear::Saved q_up;      // x: normalised latents (T, q_lora); without q_lora x (T, D) gathered
    Tensor q;                // (T, H d), rotated
    Linear::Saved kv_up;     // x: normalised latents (A, kv_lora)
    Tensor kv;               // (A, H (n + v)): k without its rotated part, then v, of each head
    Tensor k;                // (A, H d), whole
    Tensor lse;              // (T, H)
    Linear::Saved o;         // output of the heads (T, H v)
    SavedKind q_kind = SavedKind::kCheap;
  };
  // Declares name.q_a, .kv_a, .q_a_norm, .q_b (without q_lora .q), .kv_a_norm, .kv_b, .o. `rope` must outlive
  // the layer.
  LatentAttention(ParamStore& store, const ModelConfig& config, const std::string& name,
                  const RopeTable& rope);

  Tensor forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const;
  void restore(const Context& ctx, Tensor x, Saved& saved) const;
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;
  // As Attention's: 2 * 3 * H * (d + v) * length, half of it.
  double score_flops_per_token(std::int64_t length) const;
  bool saves_input() const { return true; }

  // As CachedAttention: the latent of keys and values, normalised, and the rotated part of the key. Decoding
  // leaves keys and values unmade: a query is brought to the latent's width by the keys' half of kv_b, and
  // what it gathers there comes back by the values' half (section 2.1.2).
  std::int64_t cache_columns() const { return kv_norm_.width + rotated_; }
  void remember(const Context& ctx, const CachePlaces& places, const Saved& saved, Tensor cache) const;
  Tensor decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const;

  // q, k and v are said to be cheap, since a narrow latent makes them again: DeepSeek-V3 recomputes these
  // products, and they are most of what the branch would keep. Queries that x itself makes are a product like
  // any other.
  template <class F>
  static void for_each_saved(Saved& saved, F f) {
    for (Tensor* t : {&saved.down_out, &saved.lse, &saved.o.x}) f(SavedKind::kProduct, *t);
    f(saved.q_kind, saved.q);
    for (Tensor* t : {&saved.down.x, &saved.latents, &saved.q_rstd, &saved.kv_rstd, &saved.q_up.x,
                      &saved.kv_up.x, &saved.kv, &saved.k})
      f(SavedKind::kCheap, *t);
    for (Tensor* t : {&saved.down.dy, &saved.q_up.dy, &saved.kv_up.dy, &saved.o.dy})
      f(SavedKind::kGradient, *t);
  }

  // As WatchedAttention. The rotated part of the key is one for all heads, so the rotated queries bear the
  // whole factor, and the plain parts of query and key half of it each.
  std::int64_t watched_heads() const { return heads_; }
  void watch_logits(Tensor largest) { largest_logits_ = largest; }
  std::vector<RowFactors> logit_rows(std::span<const double> factors) const;

 private:
  struct LatentNorm {
    ParamId weight;
    std::int64_t first_col, width;  // of the latent in (T, C)
    HeadView of(Tensor latents) const { return {latents, first_col, 1, width}; }
  };
  HeadView shared_key(Tensor latents) const {
    return {latents, kv_norm_.first_col + kv_norm_.width, 1, rotated_};
  }
  HeadView whole(Tensor qk) const { return {qk, 0, heads_, plain_ + rotated_}; }
  HeadView plain_part(Tensor qk) const { return {qk, 0, heads_, plain_, plain_ + rotated_}; }
  HeadView rotated_part(Tensor qk) const { return {qk, plain_, heads_, rotated_, plain_ + rotated_}; }
  HeadView plain_key(Tensor kv) const { return {kv, 0, heads_, plain_, plain_ + values_}; }
  HeadView value(Tensor kv) const { return {kv, plain_, heads_, values_, plain_ + values_}; }
  // Of this rank's rows.
  Rotation own_rotation(const Sequences& sequences) const;

  void project_down(const Context& ctx, Tensor x, Saved& saved) const;
  // From down_out, and x where it makes the queries, to q, k and v.
  void project_up(const Keep& keep, Tensor x, Saved& saved) const;
  // Of all cp ranks, (T, columns) -> (A, columns); and the adjoint.
  Tensor gather_context(const Context& ctx, const Sequences& sequences, Tensor x) const;
  Tensor context_backward(const Context& ctx, const Sequences& sequences, Tensor dy) const;
  HeadView shared_key_of_context(const Context& ctx, const Saved& saved) const;
  void shared_key_backward(const Context& ctx, const Sequences& sequences, Tensor dk, Tensor d_latents) const;
  void attend(const Context& ctx, Saved& saved) const;
  // (B, H d) -> (B, H (kv_lora + r)): what a query asks of a cached row.
  Tensor query_of_latents(const Context& ctx, Tensor q) const;
  // (B, H kv_lora) -> (B, H v).
  Tensor values_of_latents(const Context& ctx, Tensor o) const;
  // kv_b, a matrix for each head: (H, n + v, kv_lora).
  Tensor up_by_head() const;
  Tensor normalise(const Context& ctx, const LatentNorm& norm, Tensor latents, Tensor& rstd) const;
  void denormalise(const Context& ctx, const LatentNorm& norm, Tensor dy, Tensor d_latents, Tensor latents,
                   Tensor rstd) const;
  AttentionSaved core_saved(const Saved& saved) const;
  AttentionShape core_shape(const Saved& saved) const;

  ParamStore* store_;
  const RopeTable* rope_;
  Gather gather_;
  ReduceScatter reduce_scatter_;
  ContextGather context_;
  int rank_;  // of this worker within tp
  std::int64_t heads_, plain_, rotated_, values_;
  Linear down_;
  std::optional<LatentNorm> q_norm_;
  Linear q_up_;
  LatentNorm kv_norm_;
  Linear kv_up_, o_;
  float softmax_scale_;
  Tensor largest_logits_;  // (H), or undefined: not watched
};
static_assert(ResidualBranch<LatentAttention> && CachedAttention<LatentAttention> &&
              WatchedAttention<LatentAttention>);

}  // namespace jevons
