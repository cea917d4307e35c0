// One transformer block on the residual stream: h = x + attention(norm(x)), y = h + ffn(norm(h)). The block
// alone opens and closes the scope of ctx.work, and decides by config.recompute what of its inside survives
// to backward.
#pragma once

#include <cstdint>

#include "trainer/model/attention_layer.h"
#include "trainer/model/ffn.h"
#include "trainer/model/norm_layer.h"

namespace jevons {

class Block {
 public:
  // kNone: all of it. kSelective: without the norms' outputs and SwiGLU's h. kFull: attn_norm.x and
  // attn.sequences only.
  struct Saved {
    Norm::Saved attn_norm;  // its x is the block's input
    Attention::Saved attn;
    Norm::Saved ffn_norm;  // its x is h
    DenseFfn::Saved ffn;
  };
  // Declares layers.N.attn_norm, layers.N.attn.*, layers.N.ffn_norm, layers.N.ffn.*.
  Block(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope);

  Tensor forward(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const;
  // Turns dy into the gradient of x, in place, so that it outlives the block's scope without a copy.
  void backward(const Context& ctx, Tensor dy, Saved& saved) const;
  // Forward without backward: writes y over x and keeps nothing.
  void infer(const Context& ctx, Tensor x, const Sequences& sequences) const;

 private:
  // Up to the FFN's input norm(h); h lands in saved.ffn_norm.x.
  Tensor attend(const Context& ctx, Tensor x, const Sequences& sequences, Saved& saved) const;
  // Makes what forward did not keep again, in ctx.work.
  void restore(const Context& ctx, Saved& saved) const;

  Norm attn_norm_;
  Attention attn_;
  Norm ffn_norm_;
  DenseFfn ffn_;
  Recompute recompute_;
  bool keep_norms_;  // with tp > 1 the gathered copy is kept instead
};

}  // namespace jevons
