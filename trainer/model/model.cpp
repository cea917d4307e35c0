#include "trainer/model/model.h"

namespace jevons {

Model::Model(ParamStore& store, const ModelConfig& config)
    : Stage(store, config, {.first_layer = 0, .end_layer = config.num_layers}) {}

void Model::evaluate(const Context& ctx, const MicroBatch& batch, Tensor figures) {
  const ArenaScope scope(*ctx.stash);
  infer(ctx, batch, figures);
}

}  // namespace jevons
