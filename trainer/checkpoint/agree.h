// Failing together: a step that one rank cannot do is a failure of all, with one message.
#pragma once

#include <functional>

#include "parallel/communicator.h"

namespace jevons {

// Collective. Runs `work` (which may differ by rank and must not communicate), then either returns on all
// ranks or throws on all the Error of the lowest rank that failed, "rank 2: ..." before its message. Also a
// barrier.
void succeed_together(Communicator& world, const std::function<void()>& work);

}  // namespace jevons
