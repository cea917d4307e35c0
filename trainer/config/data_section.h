// data: (data/data_config.h)
#pragma once

#include "data/data_config.h"
#include "trainer/config/section.h"

namespace jevons {

void carry(Bridge section, DataConfig& data);
void check(const DataConfig& data, Rules& rules);

}  // namespace jevons
