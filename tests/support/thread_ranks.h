// N ranks as threads of one process: the third back end of the communicator, used by tests so that sanitizers
// and debuggers see every rank. The first failure is rethrown; the other ranks are released from their waits.
// Ranks whose collectives differ (another collective, dtype, size, root or pair of counts) fail with a
// message naming both.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "tests/support/ranks.h"

namespace jevons::test {

// Runs body(world) on `size` threads, one per rank. A rank that waits longer than `timeout_seconds` for its
// peers fails with a message naming the ranks that did not arrive and the collective it was in. The test
// framework's assertions are not thread-safe: in a body throw (ENSURE), or store results and check them
// after.
void run_on_threads(int size, const std::function<void(Communicator& world)>& body,
                    double timeout_seconds = 60);
// The same with results: see ranks.h, which tests use.
std::vector<std::string> run_packed_on_threads(int size, const PackedBody& body, double timeout_seconds);

}  // namespace jevons::test
