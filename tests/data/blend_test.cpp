#include "data/blend.h"

#include <algorithm>
#include <cmath>

#include "tests/data/temp_files.h"

namespace jevons {

TEST_CASE("A blend counts the samples of each source without gap", "[blend]") {
  const std::vector<double> weights = {5, 0.25, 3, 1e-9};
  const Blend blend(weights, 3);
  std::vector<std::uint64_t> next(weights.size());
  for (std::uint64_t sample = 0; sample < 3 * Blend::kCycle; ++sample) {
    const Blend::Place place = blend(sample);
    REQUIRE(place.index == next.at(place.source)++);
  }
  CHECK(next[3] == 3);  // the smallest share is once a cycle
}

TEST_CASE("Shares hold over every stretch of a blend", "[blend]") {
  const std::vector<double> weights = {6, 3, 1};
  const Blend blend(weights, 8);
  std::vector<double> count(3);
  double worst = 0;
  for (std::uint64_t sample = 0; sample < 200'000; ++sample) {
    ++count[blend(sample).source];
    for (std::size_t i = 0; i < 3; ++i)
      worst = std::max(worst, std::abs(count[i] - weights[i] / 10 * static_cast<double>(sample + 1)));
  }
  // A source is off by less than 1 in time, the others' jitter adds less than 1 each, rounding 1 / kCycle a
  // sample.
  CHECK(worst < 3 + 200'000.0 / Blend::kCycle);
  CHECK(count[0] / 200'000 == Approx(0.6).epsilon(1e-4));
  CHECK(count[2] / 200'000 == Approx(0.1).epsilon(1e-4));
}

TEST_CASE("No slot of a batch always meets the same source", "[blend]") {
  const Blend blend(std::vector<double>{1, 1}, 5);
  int even_slots = 0;
  for (std::uint64_t sample = 0; sample < 2000; sample += 2) even_slots += blend(sample).source == 0;
  CHECK(even_slots > 300);
  CHECK(even_slots < 700);
}

TEST_CASE("One source takes every sample", "[blend]") {
  const Blend blend(std::vector<double>{0.3}, 1);
  for (const std::uint64_t sample : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 60}) {
    CHECK(blend(sample).source == 0);
    CHECK(blend(sample).index == sample);
  }
}

TEST_CASE("Many tiny shares leave room for each other", "[blend]") {
  std::vector<double> weights(1000, 1e-12);
  weights[17] = 1;
  const Blend blend(weights, 1);
  std::vector<int> count(weights.size());
  for (std::uint64_t sample = 0; sample < Blend::kCycle; ++sample) ++count[blend(sample).source];
  CHECK(count[17] == static_cast<int>(Blend::kCycle) - 999);
  CHECK(*std::min_element(count.begin(), count.end()) == 1);
}

TEST_CASE("Impossible weights are refused", "[blend]") {
  CHECK_THROWS_AS(Blend(std::vector<double>{}, 0), Error);
  CHECK_THROWS_AS(Blend(std::vector<double>{1, 0}, 0), Error);
  CHECK_THROWS_AS(Blend(std::vector<double>{1, -1}, 0), Error);
  CHECK_THROWS_AS(Blend(std::vector<double>{1, std::nan("")}, 0), Error);
}

}  // namespace jevons
