// model: (trainer/model/model_config.h)
#pragma once

#include "trainer/config/section.h"
#include "trainer/model/model_config.h"

namespace jevons {

void carry(Bridge section, ModelConfig& model);
// Puts what an absent value stands for into options whose default depends on others.
void resolve_defaults(ModelConfig& model);
void check(const ModelConfig& model, Rules& rules);

}  // namespace jevons
