// Softmax cross-entropy over a vocabulary that may be split over ranks. Three steps: local statistics,
// combination of all ranks' statistics, gradient. Nothing of size (T, V) is stored but the logits themselves.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// What the rows of a part of the logits, the columns [vocab_begin, vocab_begin + V_local), should predict.
struct Targets {
  Tensor ids;  // (T) i32, -1 = masked
  std::int64_t vocab_begin = 0;
};
// Per row of logits (T, V_local): stats (T, 3) accumulator dtype = {max, sum exp(x - max), logit of the
// target or 0 when it is not in the part}.
void cross_entropy_stats(const Context&, Tensor logits, const Targets&, Tensor stats);
// gathered (parts, T, 3), combined in the order of parts. loss (T) = lse - target logit in nats (0 where
// masked), lse (T).
void cross_entropy_combine(const Context&, Tensor gathered, Tensor targets, Tensor loss, Tensor lse);
// dlogits = scale * (softmax - onehot), 0 where masked; may be logits itself.
void cross_entropy_backward(const Context&, Tensor logits, const Targets&, Tensor lse, double scale,
                            Tensor dlogits);

}  // namespace jevons
