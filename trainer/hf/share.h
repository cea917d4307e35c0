// Which rank does which of a list of pieces of work, so that all have about as much.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace jevons {

// Pieces [first, second) of `rank`, neighbours, by their sizes: those whose middle lies in its part of the
// sum.
std::pair<std::size_t, std::size_t> share_of(std::span<const std::int64_t> sizes, int rank, int ranks);

}  // namespace jevons
