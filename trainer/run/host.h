// The machine under a worker, as far as the operating system tells.
#pragma once

#include <chrono>
#include <string>

namespace jevons {

// Cores that this process may run on, at least 1.
int usable_cores();
// Threads for each of the workers of this host, which share its cores; a binding that gives a worker fewer is
// respected.
int threads_per_worker(int local_workers);
// When this process was started, on the steady clock; now if the system does not say.
std::chrono::steady_clock::time_point process_start_time();
// Commit of the source tree that this program was built from, with "+" if it had changes; "unknown" outside
// git.
std::string git_id();

}  // namespace jevons
