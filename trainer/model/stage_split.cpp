#include "trainer/model/stage_split.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/core/error.h"
#include "trainer/model/model_counts.h"

namespace jevons {
namespace {

// The best way to deal the layers from one on to some stages. Smaller is better.
struct Dealt {
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
  double squares = 0;
  std::int64_t first = 0;  // layers of the first of these stages
  auto rank() const { return std::tie(most, squares, first); }
};

}  // namespace

std::vector<std::int64_t> split_by_cost(std::span<const std::int64_t> costs, std::int64_t behind,
                                        std::int64_t stages) {
  const std::int64_t layers = std::ssize(costs);
  ENSURE(stages >= 1 && stages <= layers, "{} layers on {} stages", layers, stages);
  // best[s][l]: layers l .. on the last s stages.
  std::vector<std::vector<Dealt>> best(static_cast<std::size_t>(stages + 1),
                                       std::vector<Dealt>(static_cast<std::size_t>(layers + 1)));
  const auto at = [&](std::int64_t s, std::int64_t l) -> Dealt& {
    return best[static_cast<std::size_t>(s)][static_cast<std::size_t>(l)];
  };
  for (std::int64_t s = 1; s <= stages; ++s) {
    for (std::int64_t l = 0; l + s <= layers; ++l) {
      std::int64_t cost = s == 1 ? behind : 0;
      for (std::int64_t n = 1; n + s - 1 <= layers - l; ++n) {
        cost += costs[static_cast<std::size_t>(l + n - 1)];
        if (s == 1 && l + n < layers) continue;
        const Dealt rest = s == 1 ? Dealt{.most = 0} : at(s - 1, l + n);
        const auto square = static_cast<double>(cost) * static_cast<double>(cost);
        const Dealt dealt{std::max(cost, rest.most), square + rest.squares, n};
        if (dealt.rank() < at(s, l).rank()) at(s, l) = dealt;
      }
    }
  }
  std::vector<std::int64_t> counts;
  for (std::int64_t s = stages, l = 0; s > 0; --s) {
    counts.push_back(at(s, l).first);
    l += counts.back();
  }
  return counts;
}

std::vector<std::int64_t> balanced_layers(const ModelConfig& config, std::int64_t stages) {
  const auto cost = [&](const StageRange& range) {
    return std::llround(stage_flops_per_token(config, range));
  };
  std::vector<std::int64_t> costs;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    costs.push_back(cost({.first_layer = layer, .end_layer = layer + 1, .head = false}));
  const std::int64_t layers = config.num_layers;
  return split_by_cost(costs, cost({.first_layer = layers, .end_layer = layers}), stages);
}

std::vector<StageRange> stage_ranges(std::span<const std::int64_t> layers) {
  std::vector<StageRange> ranges;
  std::int64_t first = 0;
  for (std::size_t s = 0; s < layers.size(); ++s) {
    ranges.push_back({.first_layer = first,
                      .end_layer = first + layers[s],
                      .embedding = s == 0,
                      .head = s + 1 == layers.size()});
    first += layers[s];
  }
  return ranges;
}

}  // namespace jevons
