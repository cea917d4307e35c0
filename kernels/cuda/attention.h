// Attention on the GPU: by cuDNN where it has a plan, which it is asked for, else by matrix products
// (attention_products.h). Work of ctx.stream; scratch memory comes from ctx.work. No CUDA types here:
// kernels/no_cuda has the same functions for builds without it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace jevons::cuda {

// doc_start does not decrease within a sequence (documents lie one behind another). most_square_bytes: what a
// call of cuDNN, or a block of products, may keep of squares of scores (kernels/attention_scratch.h).
void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved);
void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads, std::int64_t most_square_bytes);
// What this thread's calls so far went by, "attention forward: 1 x 4096 positions, ...: engine 2" of cuDNN,
// or
// "...: matrix products".
std::vector<std::string> attention_engines();

}  // namespace jevons::cuda
