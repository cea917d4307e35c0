#include "kernels/core/rng.h"

#include <cmath>
#include <numbers>

namespace jevons {
namespace {

// 53 random bits as a double in [0, 1).
double unit(std::uint32_t a, std::uint32_t b) {
  return static_cast<double>((static_cast<std::uint64_t>(a) << 32 | b) >> 11) * 0x1p-53;
}

}  // namespace

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (char ch : name) h = (h ^ static_cast<unsigned char>(ch)) * 0x100000001b3u;
  return h;
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
