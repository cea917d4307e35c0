// One transformer block on the residual stream: h = x + attention(norm(x)), y = h + ffn(norm(h)), where the
// FFN is dense or a Mixture of Experts. The block alone opens and closes the scope of ctx.work, and decides
// by config.recompute what of its inside survives to backward.
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/model/attention.h"
#include "trainer/model/ffn.h"
#include "trainer/model/moe.h"
#include "trainer/model/norm.h"

namespace jevons {

class Block {
 public:
  // kNone: all of it. kSelective: without the norms' outputs and SwiGLU's h. kFull: attn_norm.x,
  // attn.sequences and the routing.
  struct Saved {
    Norm::Saved attn_norm;  // its x is the block's input
    Attention::Saved attn;
    Norm::Saved ffn_norm;  // its x is h
    DenseFfn::Saved ffn;   // of a dense layer
    Moe::Saved moe;        // of an MoE layer
  };
  // Declares layers.N.attn_norm, layers.N.attn.*, layers.N.ffn_norm, layers.N.ffn.*
  // or layers.N.moe.*.
  Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope);

  Tensor forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const;
  // Turns dy into the gradient of x, in place, so that it outlives the block's scope without a copy.
  void backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);
  // Forward without backward: writes y over x and keeps nothing.
  void infer(const Context& ctx, Tensor x, const Sequences& sequences) const;

  Moe* moe() { return moe_ ? &*moe_ : nullptr; }
  const Moe* moe() const { return moe_ ? &*moe_ : nullptr; }

 private:
  // Up to the FFN's input norm(h); h lands in saved.ffn_norm.x.
  Tensor attend(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const;
  // Makes what forward did not keep again, in ctx.work.
  void restore(const Context& ctx, Saved& saved) const;

  Norm attn_norm_;
  Attention attn_;
  Norm ffn_norm_;
  std::optional<DenseFfn> ffn_;  // one of the two
  std::optional<Moe> moe_;
  Recompute recompute_;
  // A dense branch over tp > 1 keeps the gathered copy of its input instead.
  bool keep_attn_input_, keep_ffn_input_;
};

}  // namespace jevons
