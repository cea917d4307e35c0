// What lies further ahead in each sequence, for multi-token prediction: tokens and targets moved by some
// rows, the token that a head would choose, and whether two heads agree on it. Legend: T rows of whole
// sequences, row t being position t % length of its sequence.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/context.h"

namespace jevons {

struct LookAhead {
  std::int64_t length = 0;  // of a sequence
  std::int64_t by = 1;      // rows
};
// All (T) i32.
struct SequenceTokens {
  Tensor tokens;
  Tensor targets;    // -1 = masked
  Tensor doc_start;  // first position that a row may see; undefined = 0
};
// ids (T) i32 = tokens[t + by]; the row's own token where its sequence ends before. targets (T) i32 =
// targets[t + by]; -1 there, and where row t + by does not see row t: it belongs to another document.
void look_ahead(const Context&, const SequenceTokens&, const LookAhead&, Tensor ids, Tensor targets);
// Of rows on the host: how many targets look_ahead would not mask. doc_start may be empty.
std::int64_t count_targets_ahead(std::span<const std::int32_t> targets,
                                 std::span<const std::int32_t> doc_start, const LookAhead&);

// Per row of logits (T, V_local), columns [vocab_begin, vocab_begin + V_local) of the vocabulary: best (T, 2)
// accumulator dtype = {the largest logit, its token}, ties to the lower token. A fp32 holds every token of
// the largest vocabulary, 2^24, exactly.
void best_tokens(const Context&, Tensor logits, std::int64_t vocab_begin, Tensor best);
// gathered (parts, T, 2), parts of the vocabulary in order -> tokens (T) i32, ties to the lower token.
void best_of_parts(const Context&, Tensor gathered, Tensor tokens);

// All (T) i32: the choice of the model itself, of a head that looks `by` rows further, and that head's
// targets.
struct Choices {
  Tensor model, ahead, targets;
};
// agrees (T) f32 = 1 where there is a target and ahead[t] = model[t + by], else 0.
void agreement(const Context&, const Choices&, const LookAhead&, Tensor agrees);

}  // namespace jevons
