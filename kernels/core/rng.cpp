#include "kernels/core/rng.h"

#include <cmath>
#include <numbers>

namespace jevons {
namespace {

std::uint32_t lo(std::uint64_t x) {
  return static_cast<std::uint32_t>(x);
}
std::uint32_t hi(std::uint64_t x) {
  return static_cast<std::uint32_t>(x >> 32);
}

// 53 random bits as a double in [0, 1).
double unit(std::uint32_t a, std::uint32_t b) {
  return static_cast<double>((static_cast<std::uint64_t>(a) << 32 | b) >> 11) * 0x1p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  constexpr std::uint64_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
  constexpr std::uint32_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kM0 * c[0], p1 = kM1 * c[2];
    c = {hi(p1) ^ c[1] ^ k[0], lo(p1), hi(p0) ^ c[3] ^ k[1], lo(p0)};
    k = {k[0] + kW0, k[1] + kW1};
  }
  return c;
}

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (char ch : name) h = (h ^ static_cast<unsigned char>(ch)) * 0x100000001b3u;
  return h;
}

std::array<std::uint32_t, 4> RandomStream::draw(std::uint64_t index) const {
  return philox4x32({lo(index), hi(index), lo(stream_), hi(stream_)}, {lo(seed_), hi(seed_)});
}

std::uint64_t RandomStream::bits(std::uint64_t index) const {
  const auto r = draw(index);
  return static_cast<std::uint64_t>(r[0]) << 32 | r[1];
}

double RandomStream::uniform(std::uint64_t index) const {
  const auto r = draw(index);
  return unit(r[0], r[1]);
}

double RandomStream::normal(std::uint64_t index) const {
  const auto r = draw(index);
  const double radius = std::sqrt(-2.0 * std::log1p(-unit(r[0], r[1])));
  return radius * std::cos(2.0 * std::numbers::pi * unit(r[2], r[3]));
}

std::uint64_t RandomStream::below(std::uint64_t index, std::uint64_t bound) const {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(bits(index)) * bound >> 64);
}

}  // namespace jevons
