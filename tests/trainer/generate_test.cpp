// Drawing tokens from logits.
#include <cmath>
#include <vector>

#include "kernels/core/rng.h"
#include "tests/support/catch.h"
#include "trainer/step/generate.h"

namespace jevons {

TEST_CASE("temperature zero takes the likeliest token, the first of equals", "[generate]") {
  const std::vector<float> logits{0.5f, 2.0f, 2.0f, -1.0f};
  CHECK(sample_token(logits, {.temperature = 0}, 0.99) == 1);
}

TEST_CASE("draws follow the softmax", "[generate]") {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const RandomStream random(3, "test");
  std::vector<int> counts(3);
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(static_cast<std::uint64_t>(i));
    ++counts[static_cast<std::size_t>(sample_token(logits, {.temperature = 1}, u))];
  }
  CHECK(counts[0] == Approx(0.5 * n).margin(300));
  CHECK(counts[1] == Approx(0.3 * n).margin(300));
  CHECK(counts[2] == Approx(0.2 * n).margin(300));
}

TEST_CASE("top-k leaves the rest out and the edges of the draw are safe", "[generate]") {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, 3.0f};
  const Sampling two{.temperature = 1, .top_k = 2};
  CHECK(sample_token(logits, two, 0.0) == 3);
  CHECK(sample_token(logits, two, std::nextafter(1.0, 0.0)) == 2);
  const std::vector<float> extreme{-1e30f, 1e30f, -INFINITY};
  CHECK(sample_token(extreme, {.temperature = 1}, 0.999) == 1);
}

}  // namespace jevons
