// Attention of a program without a GPU back end. No tensor on kCuda can exist there.
#include "kernels/cuda/attention.h"
#include "kernels/core/error.h"

namespace jevons::cuda {

void attention_forward(const Context&, const AttentionShape&, const AttentionSaved&) {
  fail(ExitCode::kFailure, "attention on CUDA is not part of this build");
}
void attention_backward(const Context&, const AttentionShape&, const AttentionSaved&, HeadView,
                        const AttentionGrads&, std::int64_t) {
  fail(ExitCode::kFailure, "attention on CUDA is not part of this build");
}

std::vector<std::string> attention_engines() {
  return {};
}

}  // namespace jevons::cuda
