// A run from its start to its end on one worker.
#pragma once

#include "trainer/run/trainer.h"

namespace jevons {

// A whole run on this worker, errors included: they stand in the ledger and are thrown on. `config` must be
// resolved for the world. Collective.
ExitCode train(const RunConfig& config, Communicator& world, PhaseClock& clock, const StartOptions& start);

}  // namespace jevons
