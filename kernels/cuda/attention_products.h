// Attention by matrix products and row kernels, for what cuDNN has no plan for: f32, bf16 or f64, any head
// dims and places of heads, queries anywhere among the keys. Blocks of queries against the keys that the last
// of them sees: scratch of ctx.work grows with the length of a sequence, not with its square
// (kernels/attention_scratch.h). The order of every sum depends on the sizes alone.
#pragma once

#include "kernels/attention_scratch.h"

namespace jevons::cuda {

// Scores of keys that a query does not see are computed and dropped. at_once: of square_block.
void attention_forward_by_products(const Context& ctx, const AttentionShape& shape,
                                   const AttentionSaved& saved, const SquareBlock& at_once);
// Gradients of keys and values are summed over blocks, and over the query heads that share them, in the
// accumulator dtype, and rounded once.
void attention_backward_by_products(const Context& ctx, const AttentionShape& shape,
                                    const AttentionSaved& saved, const HeadView& d_o,
                                    const AttentionGrads& grads, const SquareBlock& at_once);

}  // namespace jevons::cuda
