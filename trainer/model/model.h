// A whole decoder: a stage with both ends.
#pragma once

#include "trainer/model/stage.h"

namespace jevons {

class Model : public Stage {
 public:
  Model(ParamStore& store, const ModelConfig& config);

  // Figures without backward, added to `figures`; ctx.stash stays as it is.
  void evaluate(const Context& ctx, const MicroBatch& batch, Tensor figures);
};

}  // namespace jevons
