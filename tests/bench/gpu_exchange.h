// Rates of collectives between GPUs, as Markdown, for a job of one worker per GPU.
#pragma once

#include <cstdint>

namespace jevons {

// One worker of the job, under mpirun; returns the exit code. `peer_bytes`: largest message to each peer.
int run_exchange(std::int64_t peer_bytes);

}  // namespace jevons
