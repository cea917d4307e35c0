#include "trainer/model/model.h"

namespace jevons {

Model::Model(ParamStore& store, const ModelConfig& config)
    : Stage(store, config, {.first_layer = 0, .end_layer = config.num_layers}) {}

void Model::evaluate(const Context& ctx, const MicroBatch& batch, Tensor figures) {
  const ArenaScope scope(*ctx.stash);
  infer(ctx, batch, figures);
}

Tensor Model::prefill(const Context& ctx, Tensor tokens, std::int64_t slot, KvCache& cache) const {
  const Tensor x = prefill_rows(ctx, tokens, slot, cache);
  return infer_logits(ctx, x.slice(x.rows() - 1, x.rows()));
}

Tensor Model::decode(const Context& ctx, Tensor tokens, const CachePlaces& places, KvCache& cache) const {
  return infer_logits(ctx, decode_rows(ctx, tokens, places, cache));
}

}  // namespace jevons
