// The schema's message of a whole run as the structs that the program works with, and back.
#pragma once

#include "run.pb.h"
#include "trainer/config/run_config.h"

namespace jevons {

RunConfig to_struct(const schema::Run& run);
// Every option has a value; to_struct makes the same structs of it, but for what is no option.
schema::Run to_message(const RunConfig& config);

}  // namespace jevons
