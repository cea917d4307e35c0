// One transformer block on the residual stream: h = x + attention(norm(x)), y = h + ffn(norm(h)), with any of
// the branches of branches.h. The block alone opens and closes the scope of ctx.work, and decides by
// config.recompute what of its inside survives to backward (recompute.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/model/branches.h"
#include "trainer/model/logit_clip.h"
#include "trainer/model/norm.h"

namespace jevons {

class Block {
 public:
  struct Saved {
    Sequences sequences;
    Norm::Saved attn_norm;  // its x is the block's input, kept in every mode
    SavedOf<AttentionBranch> attn;
    Norm::Saved ffn_norm;  // its x is h
    SavedOf<FfnBranch> ffn;
  };
  // Declares layers.N.attn_norm, layers.N.ffn_norm and what the branches declare.
  Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope);

  // (S, D) -> (S, D) in ctx.stash.
  Tensor forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const;
  // Both halves: turns dy into the gradient of x, in place, so that it outlives the block's scope without a
  // copy.
  void backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);
  // The first half: the gradient of x in ctx.stash. dy stays as it is and must live until backward_weight.
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);
  void backward_weight(const Context& ctx, Saved& saved) const;
  // Forward without backward: writes y over x and keeps nothing.
  void infer(const Context& ctx, Tensor x, const Sequences& sequences) const;
  // infer, whose rows have these places in the layer's cache and are remembered there.
  void prefill(const Context& ctx, Tensor x, const Sequences& sequences, const CachePlaces& places,
               Tensor cache) const;
  // The next token (B, D) of each of several sequences behind what is in the cache; writes y over x.
  void decode(const Context& ctx, Tensor x, const CachePlaces& places, Tensor cache) const;
  // Of a position, in the compute dtype; nothing if the attention keeps no cache.
  std::optional<std::int64_t> cache_columns() const;

  // Model FLOPs of a token beside 6 per weight of a product, forward and backward, over sequences of
  // `length`: what its branches say of themselves, as Attention does.
  double score_flops_per_token(std::int64_t length) const;
  // Of QK-clip, as WatchedAttention; no heads if the attention is not watched.
  std::int64_t watched_heads() const;
  void watch_logits(Tensor largest);
  std::vector<RowFactors> logit_rows(std::span<const double> factors) const;
  Moe* moe() { return std::get_if<Moe>(&ffn_); }
  const Moe* moe() const { return std::get_if<Moe>(&ffn_); }

 private:
  // Forward without backward around attend(attention, norm(x)); writes y over x.
  template <class Attend>
  void infer_around(const Context& ctx, Tensor x, const Sequences& sequences, Attend attend) const;
  // norm(x).
  Tensor attention_input(const Keep& keep, Tensor x, Saved& saved) const;
  // norm(h), h = x + attended, which lands in saved.ffn_norm.x.
  Tensor ffn_input(const Keep& keep, Tensor x, Tensor attended, Saved& saved) const;
  // Makes what forward did not keep again, in ctx.stash.
  void restore(const Context& ctx, Saved& saved) const;

  Norm attn_norm_;
  AttentionBranch attn_;
  Norm ffn_norm_;
  FfnBranch ffn_;
  Recompute recompute_;
};

}  // namespace jevons
