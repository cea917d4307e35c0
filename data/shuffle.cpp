#include "data/shuffle.h"

#include <bit>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"

namespace jevons {
namespace {

constexpr std::uint32_t kRounds = 8;

std::uint64_t mask(int bits) {
  return (std::uint64_t{1} << bits) - 1;
}

}  // namespace

RandomPermutation::RandomPermutation(std::uint64_t size, ShuffleKey key) : size_(size), key_(key) {
  ENSURE(size >= 1, "a permutation of nothing");
  key_.seed ^= hash_name("data.shuffle");
  const int bits = std::bit_width(size - 1);
  high_bits_ = bits / 2;
  low_bits_ = bits - high_bits_;
}

std::uint64_t RandomPermutation::operator()(std::uint64_t index) const {
  ENSURE(index < size_, "index {} of {}", index, size_);
  do {
    index = network(index);
  } while (index >= size_);
  return index;
}

std::uint64_t RandomPermutation::network(std::uint64_t x) const {
  std::uint64_t low = x & mask(low_bits_), high = x >> low_bits_;
  for (std::uint32_t number = 0; number < kRounds; number += 2) {
    high ^= round(low, number) & mask(high_bits_);
    low ^= round(high, number + 1) & mask(low_bits_);
  }
  return high << low_bits_ | low;
}

// Halves have at most 32 bits.
std::uint64_t RandomPermutation::round(std::uint64_t half, std::uint32_t number) const {
  const auto r =
      philox4x32({static_cast<std::uint32_t>(half), number, key_.source, key_.epoch},
                 {static_cast<std::uint32_t>(key_.seed), static_cast<std::uint32_t>(key_.seed >> 32)});
  return r[0];
}

}  // namespace jevons
