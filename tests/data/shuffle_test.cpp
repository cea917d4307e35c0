#include "data/shuffle.h"

#include <algorithm>
#include <set>

#include "tests/data/temp_files.h"

namespace jevons {
namespace {

std::vector<std::uint64_t> order(std::uint64_t size, ShuffleKey key) {
  const RandomPermutation permutation(size, key);
  std::vector<std::uint64_t> out;
  for (std::uint64_t i = 0; i < size; ++i) out.push_back(permutation(i));
  return out;
}

}  // namespace

TEST_CASE("A random permutation hits everything once", "[shuffle]") {
  for (std::uint64_t size = 1; size <= 300; ++size) {
    const auto values = order(size, {size, 1, 2});
    CHECK(std::set(values.begin(), values.end()).size() == size);
    for (const std::uint64_t v : values) REQUIRE(v < size);
  }
  for (const std::uint64_t size : {65535u, 65536u, 65537u}) {
    std::vector<int> hits(size);
    for (const std::uint64_t v : order(size, {7, 0, 0})) ++hits.at(v);
    CHECK(std::count(hits.begin(), hits.end(), 1) == static_cast<std::ptrdiff_t>(size));
  }
}

TEST_CASE("Seed, source and epoch each change the permutation", "[shuffle]") {
  const auto base = order(1000, {1, 2, 3});
  CHECK(order(1000, {1, 2, 3}) == base);
  CHECK(order(1000, {2, 2, 3}) != base);
  CHECK(order(1000, {1 + (std::uint64_t{1} << 32), 2, 3}) != base);
  CHECK(order(1000, {1, 3, 3}) != base);
  CHECK(order(1000, {1, 2, 4}) != base);
}

TEST_CASE("Permutations of huge sets are evaluated at a point", "[shuffle]") {
  const std::uint64_t size = (std::uint64_t{1} << 62) + 12345;
  const RandomPermutation permutation(size, {1, 0, 0});
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    seen.insert(permutation(i));
    seen.insert(permutation(size - 1 - i));
  }
  CHECK(seen.size() == 2000);
  CHECK(*seen.rbegin() < size);
}

// A uniformly random permutation keeps one index in place on average, and puts any index anywhere with chance
// 1 / size.
TEST_CASE("Permutations look random", "[shuffle]") {
  constexpr std::uint64_t kSize = 37;
  constexpr std::uint32_t kEpochs = 20000;
  std::vector<double> places(kSize * kSize);
  double fixed = 0, neighbours = 0;
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto values = order(kSize, {99, 0, epoch});
    for (std::uint64_t i = 0; i < kSize; ++i) {
      ++places[i * kSize + values[i]];
      fixed += values[i] == i;
      if (i > 0) neighbours += values[i] == values[i - 1] + 1;
    }
  }
  double chi_square = 0;
  const double expected = static_cast<double>(kEpochs) / kSize;
  for (const double count : places) chi_square += (count - expected) * (count - expected) / expected;
  const double freedom = (kSize - 1.0) * (kSize - 1.0);  // 1296; standard deviation sqrt(2 x 1296) = 51
  CHECK(chi_square == Approx(freedom).margin(4 * 51));
  CHECK(fixed / kEpochs == Approx(1).margin(0.03));
  CHECK(neighbours / kEpochs == Approx(36.0 / 37).margin(0.03));
}

}  // namespace jevons
