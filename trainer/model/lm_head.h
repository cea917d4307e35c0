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
  };
  // Declares final_norm (D) and, unless `tied` to the embedding's weight, lm_head (V, D).
  LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied);

  // x (S, D), targets (T). loss_sum (1) f64 as in CrossEntropy::finish.
  void forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved) const;
  // Gradient (S, D) of scale * loss_sum summed over tp, in ctx.work; both halves.
  Tensor backward(const Context& ctx, double scale, Saved& saved) const;
  // The same in ctx.stash, and what is left for later.
  Tensor backward_input(const Context& ctx, double scale, Saved& saved) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;

  // (S, D) -> (T, V / tp), this rank's part of the vocabulary, in ctx.stash, without loss.
  Tensor logits(const Context& ctx, Tensor x) const;

 private:
  Norm norm_;
  VocabHead vocab_;
};

}  // namespace jevons
