// What ends a language model: the final norm, then the vocabulary and its loss. Legend: T rows of the
// micro-batch, S = T / tp rows of this rank.
#pragma once

#include <optional>

#include "trainer/model/norm.h"
#include "trainer/model/vocab_head.h"

namespace jevons {

class LmHead {
 public:
  struct Saved {
    Norm::Saved norm;
    VocabHead::Saved vocab;
    Tensor normed;  // (S, D) in the stash, where further predictions start from it; else undefined
  };
  // Declares final_norm (D) and, unless `tied` to the embedding's weight, lm_head (V, D).
  LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied);

  // x (S, D), targets (T). loss_sum (1) f64 and choices as in VocabHead::forward.
  void forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved,
               Tensor choices = {}) const;
  // Gradient (S, D) of scale * loss_sum summed over tp, in ctx.work; both halves. d_normed (S, D), if any:
  // what reached saved.normed from others; the result is written over it.
  Tensor backward(const Context& ctx, double scale, Saved& saved, Tensor d_normed = {}) const;
  // The same in ctx.stash, and what is left for later.
  Tensor backward_input(const Context& ctx, double scale, Saved& saved, Tensor d_normed = {}) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;

  // (S, D) -> (T, V / tp), this rank's part of the vocabulary, in ctx.stash, without loss.
  Tensor logits(const Context& ctx, Tensor x) const;
  const VocabHead& vocab() const { return vocab_; }

 private:
  // Gradient of x to dx.
  void backward_norm(const Context& ctx, double scale, Saved& saved, Tensor d_normed, Tensor dx) const;

  Norm norm_;
  VocabHead vocab_;
  bool keeps_normed_;
};

}  // namespace jevons
