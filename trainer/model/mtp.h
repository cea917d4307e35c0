// Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2). At row t depth k predicts the token
// that the model itself predicts k + 1 rows later, from the normed rows of depth k - 1 (the model's own for
// depth 0) and the embedding of the token k + 1 rows on; embedding and head are the model's. A row has no
// target where its sequence, or with a document mask its document, ends before. Legend: T rows of the
// micro-batch on this cp rank, S = T / tp rows of this rank.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "kernels/next_tokens.h"
#include "trainer/model/context_gather.h"
#include "trainer/model/embedding.h"
#include "trainer/model/mtp_depth.h"
#include "trainer/model/units.h"
#include "trainer/model/vocab_head.h"

namespace jevons {

class Mtp {
 public:
  // Of a depth.
  struct DepthSaved {
    Tensor ids, targets;  // (T) i32, look_ahead's, of this cp rank
    Embedding::Saved embedding;
    MtpDepth::Saved depth;
    VocabHead::Saved vocab;
  };
  using Saved = std::vector<DepthSaved>;
  // Where a pass starts from and what it adds to.
  struct Inputs {
    SequenceTokens tokens;  // of whole sequences, those of all cp ranks
    Sequences sequences;
    Tensor normed;  // (S, D) of the model, in ctx.stash
    Tensor losses;  // (depths) f64, each as VocabHead's loss_sum
  };

  // Declares each depth in a unit of its own, the deepest last. `rope` must outlive it.
  Mtp(ParamStore& store, const ModelConfig& config, const RopeTable& rope, const Embedding& embedding,
      const VocabHead& head);

  void forward(const Context& ctx, const Inputs& in, Saved& saved) const;
  // Gradient (S, D) of in.normed, in ctx.work.
  Tensor backward(const Context& ctx, Saved& saved, const LossScales& scales, const UnitDone& done);
  // The halves; the gradient is in ctx.stash.
  Tensor backward_input(const Context& ctx, Saved& saved, const LossScales& scales);
  void backward_weight(const Context& ctx, Saved& saved, const UnitDone& done);

  // Forward that nobody goes back through. choices (T) i32: of the model. Adds to accepted (1) f64, over this
  // rank's rows, how often the first depth chooses what the model chooses one row later, of its rows with a
  // target.
  void infer(const Context& ctx, const Inputs& in, Tensor choices, Tensor accepted) const;

  std::deque<MtpDepth>& depths() { return depths_; }
  const std::deque<MtpDepth>& depths() const { return depths_; }
  // Whether the parameters of `unit` are its own.
  bool owns(std::int64_t unit) const {
    return unit >= first_unit_ && unit < first_unit_ + std::ssize(depths_);
  }

 private:
  std::int64_t unit(std::size_t depth) const { return first_unit_ + static_cast<std::int64_t>(depth); }
  // Of all cp ranks: (T) i32 -> (T cp), in ctx.work.
  Tensor of_all_parts(const Context& ctx, const Sequences& sequences, Tensor rows) const;
  // Adds to `accepted` as infer says. All (T) i32.
  void count_accepted(const Context& ctx, const Sequences& sequences, const Choices& choices,
                      Tensor accepted) const;
  // Tokens, targets and embedding of a depth.
  Tensor look(const Context& ctx, std::size_t depth, const Inputs& in, DepthSaved& pass) const;

  ParamStore* store_;
  ContextGather context_;
  Embedding embedding_;
  VocabHead head_;
  std::int64_t embedding_unit_, head_unit_, first_unit_ = 0;
  std::deque<MtpDepth> depths_;
};

}  // namespace jevons
