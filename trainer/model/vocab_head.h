// From rows to the vocabulary and its loss: the product with a weight that tp splits by rows of the
// vocabulary, and the loss of its logits. Rows are processed in chunks so that the logits (T, V / tp) of a
// large micro-batch never exist at once. With a single chunk they are kept from forward to backward; with
// several, backward makes them again (one more product, 2 V D FLOPs per token). May be used several times in
// a pass, each with a Saved of its own. Legend: T rows of the micro-batch, S = T / tp rows of this rank,
// Vl = V / tp.
#pragma once

#include <cstdint>
#include <optional>

#include "parallel/param_store.h"
#include "parallel/region.h"
#include "trainer/model/cross_entropy.h"
#include "trainer/model/model_config.h"

namespace jevons {

class VocabHead {
 public:
  struct Saved {
    Tensor x;  // (T, D) gathered
    CrossEntropy::Saved loss;
    Tensor logits;  // (T, Vl) of a single chunk, else undefined; backward writes their gradient over it
  };
  // Declares lm_head (V, D), or uses the weight `tied`, to whose gradient it adds.
  VocabHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied);

  // x (S, D), normed; targets (T) i32. loss_sum (1) f64 as in CrossEntropy::finish. choices, if wanted, (T)
  // i32: becomes the likeliest token of every row, the same on all tp ranks.
  void forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved,
               Tensor choices = {}) const;
  // Gradient (S, D) of scale * loss_sum summed over tp, i.e. of all T rows, in ctx.work. Logits that are made
  // again are not kept for backward_weight: their share of the weight's gradient is added here.
  Tensor backward_input(const Context& ctx, double scale, Saved& saved) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;
  // Whether backward reads x itself and not a copy.
  bool saves_input() const { return gather_.returns_input(); }

  // (n, D), normed -> (n, V) in ctx.stash, without loss; tp = 1.
  Tensor logits(const Context& ctx, Tensor x) const;
  ParamId weight() const { return id_; }

 private:
  // Rows of logits that fit into max_logit_bytes, at least 1, at most x's.
  std::int64_t chunk_rows(Tensor x) const;
  // Of best (T, 2) of every tp rank's part.
  void join_choices(const Context& ctx, Tensor best, Tensor choices) const;

  ParamStore* store_;
  Gather gather_;
  ParamId id_;
  CrossEntropy loss_;
  std::int64_t max_logit_bytes_;
};

}  // namespace jevons
