#include "trainer/hf/share.h"

#include <numeric>

namespace jevons {

std::pair<std::size_t, std::size_t> share_of(std::span<const std::int64_t> sizes, int rank, int ranks) {
  const double total = static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  const auto first_from = [&](int part) {
    if (part == ranks) return sizes.size();
    double done = 0;
    std::size_t i = 0;
    for (; i < sizes.size(); ++i) {
      const double middle = done + static_cast<double>(sizes[i]) / 2;
      if (middle * ranks >= total * part) break;
      done += static_cast<double>(sizes[i]);
    }
    return i;
  };
  return {first_from(rank), first_from(rank + 1)};
}

}  // namespace jevons
