#include "data/blend.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"

namespace jevons {
namespace {

// Whole slots in proportion to the weights: everyone's share rounded down, but at least 1. What is missing
// goes to those furthest below their exact share; what is too much, because of the "at least 1", comes from
// the largest.
std::vector<std::uint32_t> slots_per_source(std::span<const double> weights, std::uint32_t cycle) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> exact;
  std::vector<std::uint32_t> slots;
  for (const double w : weights) {
    exact.push_back(w / total * cycle);
    slots.push_back(std::max(1u, static_cast<std::uint32_t>(exact.back())));
  }
  std::uint64_t dealt = std::accumulate(slots.begin(), slots.end(), std::uint64_t{0});
  for (; dealt < cycle; ++dealt) {
    std::size_t poorest = 0;
    for (std::size_t i = 1; i < slots.size(); ++i)
      if (exact[i] - slots[i] > exact[poorest] - slots[poorest]) poorest = i;
    ++slots[poorest];
  }
  for (; dealt > cycle; --dealt) --*std::max_element(slots.begin(), slots.end());
  return slots;
}

}  // namespace

Blend::Blend(std::span<const double> weights, std::uint64_t seed) {
  ENSURE(!weights.empty() && weights.size() <= kMostSources, "a blend of {} sources", weights.size());
  for (const double w : weights) ENSURE(std::isfinite(w) && w > 0, "weight {} in a blend", w);
  per_cycle_ = slots_per_source(weights, weights.size() == 1 ? 1 : kCycle);

  struct Due {
    double time;  // in [0, 1), where 1 is a cycle
    Slot slot;
  };
  std::vector<Due> due;
  const RandomStream jitter(seed, "data.blend");
  for (std::uint32_t source = 0; source < per_cycle_.size(); ++source)
    for (std::uint32_t rank = 0; rank < per_cycle_[source]; ++rank)
      due.push_back({(rank + jitter.uniform(due.size())) / per_cycle_[source], {source, rank}});
  std::sort(due.begin(), due.end(), [](const Due& a, const Due& b) {
    return a.time != b.time ? a.time < b.time : a.slot.source < b.slot.source;
  });
  for (const Due& d : due) cycle_.push_back(d.slot);
}

Blend::Place Blend::operator()(std::uint64_t sample) const {
  const Slot slot = cycle_[sample % cycle_.size()];
  return {slot.source, sample / cycle_.size() * per_cycle_[slot.source] + slot.rank};
}

std::vector<std::uint64_t> Blend::counts(std::uint64_t samples) const {
  std::vector<std::uint64_t> counts;
  for (const std::uint32_t slots : per_cycle_) counts.push_back(samples / cycle_.size() * slots);
  for (std::size_t i = 0; i < samples % cycle_.size(); ++i) ++counts[cycle_[i].source];
  return counts;
}

}  // namespace jevons
