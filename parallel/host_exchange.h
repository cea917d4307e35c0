// What the hosts of a job tell each other besides tensors.
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace jevons {

// `text` of every rank, by rank. Collective, over a communicator of the hosts.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

// "0, 2-5" with "rank " or "ranks " before it; `ranks` ascend.
std::string list_ranks(const std::vector<int>& ranks);

// "node1 (ranks 0-1) and node2 (ranks 2-3)", in order of first appearance; of more than eight hosts the first
// eight and the number of the others. `hosts`: name of the host of every rank.
std::string list_hosts(const std::vector<std::string>& hosts);

}  // namespace jevons
