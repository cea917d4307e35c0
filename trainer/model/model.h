// A whole decoder: a stage with both ends.
#pragma once

#include "trainer/model/stage.h"

namespace jevons {

class Model : public Stage {
 public:
  Model(ParamStore& store, const ModelConfig& config);

  // Figures without backward, added to `figures`; ctx.stash stays as it is.
  void evaluate(const Context& ctx, const MicroBatch& batch, Tensor figures);
  // Generation on one worker, with tokens (n) i32 of the device. A new sequence `slot` of the cache, which
  // forgets what it held: logits (1, V), compute dtype, in ctx.stash, of the token behind the last.
  Tensor prefill(const Context& ctx, Tensor tokens, std::int64_t slot, KvCache& cache) const;
  // One more token of each of B sequences: logits (B, V) of the token behind it.
  Tensor decode(const Context& ctx, Tensor tokens, const CachePlaces& places, KvCache& cache) const;
};

}  // namespace jevons
