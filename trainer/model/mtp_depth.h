// One depth of multi-token prediction (mtp.h): from the embedding e of a later token and the normed rows h of
// the depth before,
//   z = eh_proj [enorm(e) | hnorm(h)],   y = block(z),   norm(y)
// with a whole block of the model, an MoE in a model with experts. Rows are this rank's (S, D), as between
// blocks.
#pragma once

#include <cstdint>

#include "trainer/model/block.h"

namespace jevons {

class MtpDepth {
 public:
  struct Saved {
    Tensor e, h;            // (S, D), the inputs themselves
    Tensor e_rstd, h_rstd;  // (S, 1)
    Linear::Saved proj;     // x (S, 2 D) = [enorm(e) | hnorm(h)]
    Block::Saved block;
    Norm::Saved norm;  // its x is y
  };
  // Declares layers.N.mtp.enorm, .hnorm (D), .eh_proj (D, 2 D), .norm (D) and the block of layer N.
  MtpDepth(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope);

  // e, h in ctx.stash. norm(y) goes to ctx.stash.
  Tensor forward(const Context& ctx, Tensor e, Tensor h, const Sequences& sequences, Saved& saved) const;
  // Forward that nobody goes back through; ctx.stash grows by z and the result.
  Tensor infer(const Context& ctx, Tensor e, Tensor h, const Sequences& sequences) const;

  struct Gradients {
    Tensor e, h;  // (S, D), given; written over
  };
  // Both halves. dn (S, D): gradient of norm(y).
  void backward(const Context& ctx, Tensor dn, Saved& saved, const LossScales& scales, const Gradients& out);
  // The halves. What the second needs is kept in ctx.stash, where out.e must lie.
  void backward_input(const Context& ctx, Tensor dn, Saved& saved, const LossScales& scales,
                      const Gradients& out);
  void backward_weight(const Context& ctx, Saved& saved) const;

  std::int64_t layer() const { return layer_; }
  Block& block() { return block_; }
  const Block& block() const { return block_; }

 private:
  // [enorm(e) | hnorm(h)] (S, 2 D), with its statistics, in ctx.stash.
  void join(const Context& ctx, Saved& saved) const;
  // From the gradient of z to those of e and h.
  void part(const Context& ctx, Tensor dz, Saved& saved, const Gradients& out) const;

  ParamStore* store_;
  std::int64_t layer_, width_;
  ParamId enorm_, hnorm_;
  Linear proj_;
  Block block_;
  Norm norm_;
  float eps_;
  Recompute recompute_;
};

}  // namespace jevons
