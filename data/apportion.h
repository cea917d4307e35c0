// Whole parts of a number in proportion to weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace jevons {

// Shares of `total` in proportion to `weights` (> 0), none above its `limit`; they add up to `total`, or to
// the sum of the limits if that is less. Whoever has a limit above 0 gets 1 before anyone gets more, the
// heaviest first.
std::vector<std::int64_t> apportion(std::int64_t total, std::span<const double> weights,
                                    std::span<const std::int64_t> limits);

}  // namespace jevons
