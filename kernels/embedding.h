// Token embedding over a slice of the vocabulary.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// tokens (T) i32; table (V_local, D) holds ids [vocab_begin, vocab_begin + V_local); y (T, D): zero for ids
// outside.
void embedding_forward(const Context&, Tensor tokens, Tensor table, std::int64_t vocab_begin, Tensor y);
// d_table (V_local, D) accumulator dtype, += in token order (no atomics).
void embedding_backward(const Context&, Tensor dy, Tensor tokens, std::int64_t vocab_begin, Tensor d_table);

}  // namespace jevons
