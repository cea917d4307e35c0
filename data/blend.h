// Which source a sample of a weighted blend comes from, as a pure function of the sample's number.
// Samples are dealt in cycles of fixed length. In a cycle every source gets its share exactly; its samples
// are spread evenly, each at a random place of its own equal part of the cycle, so shares hold over short
// stretches too and no slot of the batch always meets the same source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace jevons {

class Blend {
 public:
  static constexpr std::uint32_t kCycle = 1 << 16;
  static constexpr std::size_t kMostSources = kCycle / 16;

  // Weights are finite and > 0. Shares are rounded to 1 / kCycle, and are at least that.
  Blend(std::span<const double> weights, std::uint64_t seed);

  struct Place {
    std::uint32_t source;
    std::uint64_t index;  // how many earlier samples of the blend came from this source
  };
  Place operator()(std::uint64_t sample) const;
  // How many of the first `samples` samples come from each source.
  std::vector<std::uint64_t> counts(std::uint64_t samples) const;

 private:
  struct Slot {
    std::uint32_t source, rank;  // rank: earlier slots of the cycle with this source
  };
  std::vector<Slot> cycle_;
  std::vector<std::uint32_t> per_cycle_;  // (sources) slots of each in a cycle
};

}  // namespace jevons
