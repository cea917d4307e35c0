#include "data/apportion.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "kernels/core/error.h"

namespace jevons {

std::vector<std::int64_t> apportion(std::int64_t total, std::span<const double> weights,
                                    std::span<const std::int64_t> limits) {
  ENSURE(weights.size() == limits.size(), "{} weights, {} limits", weights.size(), limits.size());
  std::vector<std::size_t> heaviest(weights.size());
  std::iota(heaviest.begin(), heaviest.end(), std::size_t{0});
  std::stable_sort(heaviest.begin(), heaviest.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  std::vector<std::int64_t> shares(weights.size(), 0);
  std::int64_t left = total;
  const auto give = [&](std::size_t i, std::int64_t wanted) {
    const std::int64_t given = std::clamp<std::int64_t>(std::min(wanted, left), 0, limits[i] - shares[i]);
    shares[i] += given, left -= given;
    return given;
  };
  for (const std::size_t i : heaviest) give(i, 1);
  while (left > 0) {
    double open = 0;  // weight of those below their limits
    for (const std::size_t i : heaviest) open += shares[i] < limits[i] ? weights[i] : 0;
    if (open == 0) break;
    const auto whole = static_cast<double>(left);
    std::int64_t given = 0;
    for (const std::size_t i : heaviest) {
      given += give(i, static_cast<std::int64_t>(whole * (weights[i] / open)));
    }
    if (given > 0) continue;
    for (const std::size_t i : heaviest) give(i, 1);
  }
  return shares;
}

}  // namespace jevons
