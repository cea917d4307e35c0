// Stop requests from outside: SIGTERM, SIGUSR1 and SIGUSR2 ask a run to finish its step, save, and exit with
// code 75.
#pragma once

namespace jevons {

// Installs the handlers for the rest of the process, and unblocks these signals in this thread:
// scripts/launch blocks SIGTERM in what it starts. A second SIGTERM ends the process at once.
void catch_stop_signals();
// Whether one arrived at this process.
bool stop_signal_received();
// Whether a SIGTERM did: what a launcher sends shortly before it kills.
bool term_received();

}  // namespace jevons
