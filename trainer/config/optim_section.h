// optimizer: and schedule: (trainer/optim/optim_config.h)
#pragma once

#include "trainer/config/section.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

void carry(Bridge optimizer, Bridge schedule, OptimConfig& optim);
void check(const OptimConfig& optim, Rules& rules);

}  // namespace jevons
