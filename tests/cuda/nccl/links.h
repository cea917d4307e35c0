// What a communicator of GPUs does when NCCL fails or never ends, and how it uses streams and memory.
#pragma once

#include "parallel/communicator.h"

namespace jevons::test {

// Collective, on the emulated GPU alone. Throws Error if something is not as it should be.
void check_links(Communicator& hosts);

}  // namespace jevons::test
