// Where NaN and infinity come from. Two searches that read everything and so run seldom: through a step that
// failed, by computing it once more piece by piece, and through what a checkpoint would hold.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/step/worker.h"

namespace jevons {

// The passes of a step, as forward_backward takes them.
struct StepInputs {
  const RankProgram& program;
  std::function<MicroBatch(const Context& ctx, std::int64_t micro_batch)> read;
  LossScales scales;
};

// After the gradients of a step were summed and before they are used. Forward and backward run again: the
// earliest tensor that is not finite on any rank is named with that rank, "rank 2: router logits of layer 3,
// 17 of 4096 values, micro-batch 0". Gradients and balance figures are garbage afterwards. Collective; the
// same text on every rank.
std::string find_nonfinite(Worker& worker, const StepInputs& inputs);

// Throws AgreedError(kFailure) that names rank and tensor if any of these boxes, of any rank, holds a value
// that is not finite. Collective.
void check_finite(Worker& worker, const std::vector<TensorBox>& boxes);

}  // namespace jevons
