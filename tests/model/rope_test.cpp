#include "trainer/model/rope.h"

#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {

TEST_CASE("rope: the angle of a pair is its frequency times the position", "[model]") {
  const DType compute = GENERATE(DType::kF32, DType::kBF16, DType::kF64);
  const RopeFrequencies frequencies{.per_pair = {1, 0.5, 0.001}, .amplitude = 1.25};
  const RopeTable rope(Device::kCpu, compute, 40, frequencies);
  REQUIRE(rope.cos().shape == Shape{40, 3});
  REQUIRE(rope.sin().dtype == accumulator_of(compute));
  for (std::int64_t i = 0; i < 40 * 3; ++i) {
    const double angle = static_cast<double>(i / 3) * frequencies.per_pair[static_cast<std::size_t>(i % 3)];
    CHECK(element(rope.cos(), i) == Approx(1.25 * std::cos(angle)).margin(1e-7));
    CHECK(element(rope.sin(), i) == Approx(1.25 * std::sin(angle)).margin(1e-7));
  }
}

TEST_CASE("rope: frequencies fall from 1 by powers of theta", "[model]") {
  ModelConfig config = tiny_dense();
  config.head_dim = 8, config.rope_theta = 10000;
  const RopeFrequencies frequencies = rope_frequencies(config);
  CHECK(frequencies.amplitude == 1);
  REQUIRE(frequencies.per_pair.size() == 4);
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(frequencies.per_pair[i] == Approx(std::pow(10, -1.0 * static_cast<double>(i))));
}

}  // namespace jevons::test
