// How many parameters a model has and what one token costs, from what the model itself declares: it is built
// on the meta device, in a world of one worker.
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/model/model_config.h"
#include "trainer/model/stage.h"

namespace jevons {

struct PartCounts {
  std::int64_t total = 0;   // every weight, router bias included
  std::int64_t active = 0;  // used by one token, input embedding included
  std::int64_t matmul = 0;  // active weights in matrix products: LM head in, input embedding out, norms out
  // Model FLOPs of one trained token, forward and backward: 6 per active matmul weight plus causal attention
  // (Attention::score_flops_per_token); no recompute. The convention behind every MFU that Jevons prints.
  double flops_per_token = 0;
};

struct ModelCounts : PartCounts {
  // What multi-token prediction has and costs beside that, which the figures above leave out: its blocks, and
  // the head once more for each depth (in matmul, not in total or active).
  PartCounts mtp;
  // Numbers that generation keeps of a token, over all layers; nothing if an attention has no cache.
  std::optional<std::int64_t> cache_columns;
};

ModelCounts count_model(const ModelConfig& config);

// The same FLOPs of the layers and the head of a pipeline stage, multi-token prediction included; the
// embedding, a lookup, has none.
double stage_flops_per_token(const ModelConfig& config, StageRange range);

}  // namespace jevons
