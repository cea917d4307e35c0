// Two tasks of one thread that take turns: each hands over where it would wait for something that travels, so
// that one computes while the other's message is on the wire. The order of all that they do is fixed by their
// own calls, so ranks that run the same pair of tasks make the same calls in the same order.
#pragma once

#include <functional>

#include "kernels/core/phase_clock.h"

namespace jevons {

class Turns {
 public:
  virtual ~Turns() = default;
  // The other task goes on until it hands over itself, or ends; at once if it has ended.
  virtual void hand_over() = 0;
};

// `first` begins. Returns when both have ended; what one of them throws ends the other at its next turn and
// is thrown here. `clock` may be null; each task goes on in the phase in which it handed over.
void run_in_turns(const std::function<void(Turns&)>& first, const std::function<void(Turns&)>& second,
                  PhaseClock* clock);

}  // namespace jevons
