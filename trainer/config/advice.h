// Options that are allowed together, but cannot do what they seem to say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config/run_config.h"

namespace jevons {

// What is known of a run beside its configuration.
struct RunExtent {
  std::int64_t total_steps = 0;
  std::int64_t validation_samples = 0;
};

// One sentence each, for warnings.
std::vector<std::string> doubtful_options(const RunConfig& config, const RunExtent& extent);

}  // namespace jevons
