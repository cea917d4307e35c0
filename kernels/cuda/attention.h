// Attention on the GPU, by cuDNN: bf16, head dims that are multiples of 8. Work of ctx.stream; scratch memory
// comes from ctx.work. Plans are kept by shape. No CUDA types here: kernels/no_cuda has the same functions
// for builds without it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace jevons::cuda {

// doc_start does not decrease within a sequence (documents lie one behind another). most_square_bytes: what a
// call of the library may keep of squares of scores (kernels/attention_scratch.h).
void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved);
void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads, std::int64_t most_square_bytes);
// The engines chosen so far by this thread, "attention forward: 1 x 4096 positions, ...: engine 2".
std::vector<std::string> attention_engines();

}  // namespace jevons::cuda
