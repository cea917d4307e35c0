// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A value is a pure function of (seed, name, index), so it does not depend on layout, order or
// number of workers.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/core/host_device.h"

namespace jevons {
namespace detail {

JEVONS_HD constexpr std::uint32_t lo(std::uint64_t x) {
  return static_cast<std::uint32_t>(x);
}
JEVONS_HD constexpr std::uint32_t hi(std::uint64_t x) {
  return static_cast<std::uint32_t>(x >> 32);
}

}  // namespace detail

JEVONS_HD inline std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c,
                                                         std::array<std::uint32_t, 2> k) {
  constexpr std::uint64_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
  constexpr std::uint32_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;
  using detail::hi, detail::lo;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kM0 * c[0], p1 = kM1 * c[2];
    c = {hi(p1) ^ c[1] ^ k[0], lo(p1), hi(p0) ^ c[3] ^ k[1], lo(p0)};
    k = {k[0] + kW0, k[1] + kW1};
  }
  return c;
}

// 64-bit FNV-1a; stable over platforms and releases, since checkpoints and data order depend on it.
std::uint64_t hash_name(std::string_view name);

// A stream of random numbers addressed by a 64-bit index.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name) : seed_(seed), stream_(hash_name(name)) {}

  JEVONS_HD std::uint32_t word(std::uint64_t index) const { return draw(index)[0]; }  // 32 random bits
  std::uint64_t bits(std::uint64_t index) const;                                      // 64 of them
  double uniform(std::uint64_t index) const;                                          // in [0, 1)
  double normal(std::uint64_t index) const;  // mean 0, standard deviation 1 (Box-Muller)
  // Uniform in [0, bound), bound >= 1, without modulo bias that a 64-bit run could see (bound < 2^53).
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;

 private:
  JEVONS_HD std::array<std::uint32_t, 4> draw(std::uint64_t index) const {
    using detail::hi, detail::lo;
    return philox4x32({lo(index), hi(index), lo(stream_), hi(stream_)}, {lo(seed_), hi(seed_)});
  }
  std::uint64_t seed_, stream_;
};

}  // namespace jevons
