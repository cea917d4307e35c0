// Attention on the GPU, by cuDNN: bf16, head dims that are multiples of 8. Work of ctx.stream; scratch memory
// comes from ctx.work. Plans are kept by shape. No CUDA types here: kernels/no_cuda has the same functions
// for builds without it.
#pragma once

#include "kernels/attention.h"

namespace jevons::cuda {

// doc_start does not decrease within a sequence (documents lie one behind another).
void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved);
void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads);

}  // namespace jevons::cuda
