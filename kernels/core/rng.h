// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A value is a pure function of (seed, name, index), so it does not depend on layout, order or
// number of workers.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace jevons {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

// 64-bit FNV-1a; stable over platforms and releases, since checkpoints and data order depend on it.
std::uint64_t hash_name(std::string_view name);

// A stream of random numbers addressed by a 64-bit index.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name) : seed_(seed), stream_(hash_name(name)) {}

  std::uint64_t bits(std::uint64_t index) const;  // 64 random bits
  double uniform(std::uint64_t index) const;      // in [0, 1)
  double normal(std::uint64_t index) const;       // mean 0, standard deviation 1 (Box-Muller)
  // Uniform in [0, bound), bound >= 1, without modulo bias that a 64-bit run could see (bound < 2^53).
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  std::array<std::uint32_t, 4> draw(std::uint64_t index) const;
  std::uint64_t seed_, stream_;
};

}  // namespace jevons
