// Final norm, logits and cross-entropy, split over tp by rows of the vocabulary. Rows are processed in chunks
// so that the logits (T, V / tp) of a large micro-batch never exist at once. With a single chunk they are
// kept from forward to backward; with several, backward makes them again (one more product with the head, 2 V
// D FLOPs per token). Legend: T rows of the micro-batch, S = T / tp rows of this rank, Vl = V / tp.
#pragma once

#include <cstdint>
#include <optional>

#include "parallel/region.h"
#include "trainer/model/model_config.h"
#include "trainer/model/norm.h"

namespace jevons {

class LmHead {
 public:
  struct Saved {
    Norm::Saved norm;
    Tensor x;        // (T, D) normed and gathered
    Tensor targets;  // (T) i32, -1 = masked
    Tensor lse;      // (T)
    Tensor logits;   // (T, Vl) of a single chunk, else undefined; backward writes their gradient over it
  };
  // Declares final_norm (D) and lm_head (V, D); with `tied` the weight is the embedding's and its gradients
  // add up there.
  LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied);

  // x (S, D), targets (T). loss_sum (1) f64 += loss in nats of this rank's S rows, 0 where the target is
  // masked. Every row belongs to one rank, so the sum over mesh.stage() counts each once.
  void forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved) const;
  // Gradient (S, D) of scale * loss_sum summed over tp, i.e. of all T rows, in ctx.work.
  Tensor backward(const Context& ctx, double scale, Saved& saved) const;
  // Its two halves, dx in ctx.stash. Logits that are made again are not kept for the second one: their share
  // of the weight's gradient is added in the first.
  Tensor backward_input(const Context& ctx, double scale, Saved& saved) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;

  // (n, D) -> (n, V), without loss; tp = 1.
  Tensor logits(const Context& ctx, Tensor x) const;

 private:
  void backward_input(const Context& ctx, double scale, Tensor dx, Saved& saved) const;
  // Rows of logits that fit into max_logit_bytes, at least 1, at most x's.
  std::int64_t chunk_rows(Tensor x) const;
  std::int64_t vocab_begin() const { return store_->params()[id_].tp_offset; }

  ParamStore* store_;
  Norm norm_;
  Gather gather_;
  ParamId id_;
  std::int64_t max_logit_bytes_;
};

}  // namespace jevons
