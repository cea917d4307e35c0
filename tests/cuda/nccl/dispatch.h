// Expert dispatch between GPUs against the same dispatch between their hosts.
#pragma once

#include "parallel/communicator.h"

namespace jevons::test {

// Collective. Plans are equal element for element, and what goes out and comes home bit for bit; a plan that
// goes wrong on the device is named. Throws Error if not.
void check_dispatch(Communicator& hosts);

}  // namespace jevons::test
