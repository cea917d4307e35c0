// A random permutation of [0, size) that is evaluated at one point in O(1) memory: a Feistel network on the
// bits of the index (Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom
// functions", SIAM J. Comput. 1988, with Philox as the function), walked along its cycle until it lands below
// size (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, method 2).
#pragma once

#include <cstdint>

namespace jevons {

// What makes one permutation differ from another.
struct ShuffleKey {
  std::uint64_t seed = 0;
  std::uint32_t source = 0;
  std::uint32_t epoch = 0;
};

class RandomPermutation {
 public:
  // size >= 1
  RandomPermutation(std::uint64_t size, ShuffleKey key);
  // index < size. Less than two walks on average: the network's domain is the next power of two.
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t network(std::uint64_t x) const;
  std::uint64_t round(std::uint64_t half, std::uint32_t number) const;

  std::uint64_t size_;
  ShuffleKey key_;
  int low_bits_, high_bits_;  // the two halves of an index
};

}  // namespace jevons
