#include "data/apportion.h"

#include <numeric>

#include "tests/support/catch.h"

namespace jevons {
namespace {

using Counts = std::vector<std::int64_t>;

Counts shares(std::int64_t total, std::vector<double> weights, const Counts& limits) {
  return apportion(total, weights, limits);
}

}  // namespace

TEST_CASE("Parts are in proportion, within their limits, and add up", "[apportion]") {
  CHECK(shares(10, {1, 1}, {100, 100}) == Counts{5, 5});
  CHECK(shares(8, {3, 1}, {100, 100}) == Counts{6, 2});
  CHECK(shares(10, {3, 1}, {5, 100}) == Counts{5, 5});
  CHECK(shares(10, {1, 1}, {2, 3}) == Counts{2, 3});
  CHECK(shares(2, {1, 5, 3}, {9, 9, 9}) == Counts{0, 1, 1});
  CHECK(shares(3, {1e-9, 1, 1e9}, {9, 9, 9}) == Counts{1, 1, 1});
  CHECK(shares(5, {1, 2}, {0, 9}) == Counts{0, 5});
  CHECK(shares(0, {1, 2}, {9, 9}) == Counts{0, 0});
  CHECK(shares(7, {}, {}) == Counts{});
  CHECK(shares(std::int64_t{1} << 60, {1, 1, 1}, {1, std::int64_t{1} << 61, 7}).at(1) ==
        (std::int64_t{1} << 60) - 8);
  for (std::int64_t total = 0; total < 200; ++total) {
    const Counts parts = shares(total, {0.1, 7, 2.5, 2.5, 30}, {40, 40, 40, 40, 40});
    CHECK(std::accumulate(parts.begin(), parts.end(), std::int64_t{0}) == total);
  }
}

}  // namespace jevons
