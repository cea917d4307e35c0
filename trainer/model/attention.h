// Grouped-query self-attention (Ainslie et al., arXiv:2305.13245) with rotary positions and optional QK-norm.
// Tensor parallel over heads: q, k, v are split by rows, o by columns.
// Context parallel over positions: keys and values come from all n cp ranks (context_gather.h).
// Legend: T rows of the micro-batch on a cp rank, S = T / tp rows of this rank, D hidden size; H, KV: query
// and key/value heads of this rank; d head size.
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

class Attention {
 public:
  struct Saved {
    Sequences sequences;
    Linear::Saved qkv;      // x (T, D) gathered over tp
    Tensor qkv_out;         // (T, (H + 2 KV) d); q and k are already rotated here when there is no QK-norm
    Tensor qk;              // with QK-norm: (T, (H + KV) d) normalised and rotated; else undefined
    Tensor q_rstd, k_rstd;  // (T, H), (T, KV), or (T, 1) for QkNorm::kHidden
    Tensor context;         // with n > 1: (n T, 2 KV d), keys and values of all positions; else undefined
    Tensor lse;             // (T, H)
    Linear::Saved o;        // output of the heads (T, H d)
  };
  // Declares name.q, .k, .v, .o and, with QK-norm, .q_norm, .k_norm. `rope` must outlive the layer.
  Attention(ParamStore& store, const ModelConfig& config, const std::string& name, const RopeTable& rope);

  Tensor forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const;
  void restore(const Context& ctx, Tensor x, Saved& saved) const;
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;
  // Model FLOPs of scores and their sums of values, forward and backward, for a token of this rank's heads:
  // the mean over a causal sequence of `length`, half of 2 * 2 * 3 * H * d * length.
  double score_flops_per_token(std::int64_t length) const;
  bool saves_input() const { return gather_.returns_input(); }

  // As CachedAttention: keys as they were rotated, then values.
  std::int64_t cache_columns() const { return 2 * kv_heads_ * head_dim_; }
  void remember(const Context& ctx, const CachePlaces& places, const Saved& saved, Tensor cache) const;
  Tensor decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const;

  // As WatchedAttention. Heads that share a key head have the smallest of their factors, half of it (in the
  // logarithm) on the queries and half on the key.
  std::int64_t watched_heads() const { return qk_norm_ ? 0 : heads_; }
  void watch_logits(Tensor largest) { largest_logits_ = largest; }
  std::vector<RowFactors> logit_rows(std::span<const double> factors) const;

  template <class F>
  static void for_each_saved(Saved& saved, F f) {
    for (Tensor* t : {&saved.qkv_out, &saved.lse, &saved.o.x}) f(SavedKind::kProduct, *t);
    for (Tensor* t : {&saved.qkv.x, &saved.qk, &saved.q_rstd, &saved.k_rstd, &saved.context})
      f(SavedKind::kCheap, *t);
    for (Tensor* t : {&saved.qkv.dy, &saved.o.dy}) f(SavedKind::kGradient, *t);
  }

 private:
  struct QkNormIds {
    ParamId q, k;
  };
  std::int64_t columns() const { return (heads_ + 2 * kv_heads_) * head_dim_; }
  HeadView query(Tensor base) const { return {base, 0, heads_, head_dim_}; }
  HeadView key(Tensor base) const { return {base, heads_ * head_dim_, kv_heads_, head_dim_}; }
  HeadView value(Tensor base) const { return {base, (heads_ + kv_heads_) * head_dim_, kv_heads_, head_dim_}; }
  // Where keys lie one beside the other, then values: in a cache, and in Saved::context.
  HeadView cached_key(Tensor cache) const { return {cache, 0, kv_heads_, head_dim_}; }
  HeadView cached_value(Tensor cache) const { return {cache, kv_heads_ * head_dim_, kv_heads_, head_dim_}; }
  // The same columns as units of the norm: heads, or all heads as one.
  HeadView norm_unit(HeadView heads) const;
  Tensor rotated(const Saved& saved) const { return qk_norm_ ? saved.qk : saved.qkv_out; }
  void gather_context(const Context& ctx, Saved& saved) const;
  // From q, k and v to the output of the heads.
  void attend(const Keep& keep, Saved& saved) const;
  void attend_backward(const Context& ctx, const Saved& saved, Tensor d_o, Tensor d_qkv) const;
  void normalise_and_rotate(const Context& ctx, Saved& saved) const;
  void denormalise(const Context& ctx, HeadView dq, HeadView dk, const Saved& saved) const;
  AttentionSaved core_saved(const Saved& saved) const;
  AttentionShape core_shape(const Saved& saved) const;

  ParamStore* store_;
  const RopeTable* rope_;
  Gather gather_;
  ReduceScatter reduce_scatter_;
  ContextGather context_;
  Linear qkv_, o_;
  std::optional<QkNormIds> qk_norm_;
  QkNorm norm_kind_;
  float eps_, softmax_scale_;
  std::int64_t heads_, kv_heads_, head_dim_;  // of this rank
  Tensor largest_logits_;                     // (H), or undefined: not watched
};
static_assert(ResidualBranch<Attention> && CachedAttention<Attention> && WatchedAttention<Attention>);

}  // namespace jevons
