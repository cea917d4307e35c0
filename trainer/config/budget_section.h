// budget: (trainer/cost/budget_config.h)
#pragma once

#include "trainer/config/section.h"
#include "trainer/cost/budget_config.h"

namespace jevons {

// What its texts do not say is found here; it has no rule.
void carry(Bridge section, BudgetConfig& budget);

}  // namespace jevons
