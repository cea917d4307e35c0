// What a worker holds in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "parallel/communicator.h"

namespace jevons {

// Bytes of one worker at its peak.
struct MemoryReport {
  std::size_t weights_and_grads = 0;  // with the partial sums of layout-invariant gradients
  std::size_t optimizer = 0;
  std::size_t stash = 0;          // saved activations of all micro-batches under way
  std::size_t work = 0;           // temporaries, on GPUs with the scratch of their libraries
  std::size_t communication = 0;  // buffers of the GPUs' collectives
  std::size_t total() const { return weights_and_grads + optimizer + stash + work + communication; }
  std::string to_string() const;  // a line for each, for messages
};

struct ArenaBytes {
  std::int64_t peak = 0, held = 0;
};
// The most of every rank's. Collective.
ArenaBytes most_of_ranks(ArenaBytes mine, Communicator& world);

}  // namespace jevons
