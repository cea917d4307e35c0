// The loss of a language model: cross-entropy of logits whose vocabulary tp splits, and which come in chunks
// of rows, so that all of them need not exist at once. Legend: T rows of the micro-batch, Vl columns of this
// rank.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "parallel/communicator.h"

namespace jevons {

class CrossEntropy {
 public:
  struct Saved {
    Tensor targets;  // (T) i32, -1 = masked
    Tensor lse;      // (T) log-sum-exp of all logits of a row
  };
  // `vocab_begin`: the token of this rank's first column.
  CrossEntropy(Communicator& tp, std::int64_t vocab_begin) : tp_(&tp), vocab_begin_(vocab_begin) {}

  // Forward: begin; rows() of every chunk of rows, in any order; finish. begin returns the statistics (T, 3)
  // in ctx.work that the others are given; `logits` is the dtype of what is to come.
  Tensor begin(const Context& ctx, Tensor targets, DType logits, Saved& saved) const;
  void rows(const Context& ctx, Tensor logits, std::int64_t first_row, Tensor statistics,
            const Saved& saved) const;
  // loss_sum (1) f64 += loss in nats of this rank's T / tp rows, 0 where the target is masked. Every row
  // belongs to one rank, so the sum over mesh.stage() counts each once. Collective over tp.
  void finish(const Context& ctx, Tensor statistics, Tensor loss_sum, const Saved& saved) const;
  // Writes the gradient of scale * loss_sum summed over tp over the logits (n, Vl) of rows first_row and on.
  void backward(const Context& ctx, Tensor logits, std::int64_t first_row, double scale,
                const Saved& saved) const;

 private:
  Communicator* tp_;
  std::int64_t vocab_begin_;
};

}  // namespace jevons
