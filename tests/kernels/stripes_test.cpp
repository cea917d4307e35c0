// The order of rows that are dealt in stripes, against a plain deal.
#include "kernels/stripes.h"

#include <algorithm>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

TEST_CASE("stripes are dealt round and joined again", "[stripes]") {
  for (const Stripes& stripes : {Stripes{12, 1, 4}, Stripes{12, 2, 3}, Stripes{12, 3, 2},
                                 Stripes{1024, 4, 128}, Stripes{96, 8, 4}, Stripes{8, 8, 1}}) {
    const std::int64_t sequences = 3, rows = sequences * stripes.length;
    CAPTURE(stripes.length, stripes.parts, stripes.run);
    std::vector<double> want;  // rows, part by part
    for (std::int64_t part = 0; part < stripes.parts; ++part) {
      for (std::int64_t s = 0; s < sequences; ++s) {
        for (std::int64_t position = 0; position < stripes.length; ++position) {
          if (position / stripes.run % stripes.parts == part)
            want.push_back(static_cast<double>(s * stripes.length + position));
        }
      }
    }
    test::KernelBench bench;
    const Tensor dealt = bench.poisoned({rows}, DType::kI32), joined = bench.poisoned({rows}, DType::kI32);
    bench.run(stripe_order, stripes, dealt, joined);
    CHECK(test::to_doubles(dealt) == want);
    const auto places = test::to_doubles(joined);
    for (std::size_t place = 0; place < want.size(); ++place) {
      REQUIRE(places[static_cast<std::size_t>(want[place])] == static_cast<double>(place));
    }
    // What a part says of its rows' positions.
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t part = i / (rows / stripes.parts), local = i % stripes.local_length();
      REQUIRE(stripes.of(part)[local] ==
              static_cast<std::int64_t>(want[static_cast<std::size_t>(i)]) % stripes.length);
    }
  }
}

TEST_CASE("stripes that do not fill their sequences are refused", "[stripes]") {
  test::KernelBench bench;
  const Tensor order = bench.poisoned({24}, DType::kI32);
  for (const Stripes& stripes :
       {Stripes{12, 2, 4}, Stripes{10, 2, 5}, Stripes{12, 5, 1}, Stripes{12, 2, 0}}) {
    CHECK_THROWS_AS(stripe_order(bench.ctx, stripes, order, order), Error);
  }
}

// The most causal work of a part over the mean: of each row, as many keys as positions up to its own.
double imbalance(const Stripes& stripes) {
  double most = 0, all = 0;
  for (std::int64_t part = 0; part < stripes.parts; ++part) {
    double work = 0;
    for (std::int64_t row = 0; row < stripes.local_length(); ++row)
      work += static_cast<double>(stripes.of(part)[row] + 1);
    most = std::max(most, work), all += work;
  }
  return most * static_cast<double>(stripes.parts) / all;
}

TEST_CASE("stripes balance causal attention", "[stripes]") {
  CHECK(imbalance({32768, 8, 128}) == Approx(1.027).margin(0.001));
  CHECK(imbalance({32768, 16, 128}) == Approx(1.059).margin(0.001));
  CHECK(imbalance({32768, 8, 4096}) == Approx(1.875).margin(0.001));   // contiguous
  CHECK(imbalance({32768, 16, 2048}) == Approx(1.937).margin(0.001));  // contiguous
}

TEST_CASE("positions from the middle of the rows", "[stripes]") {
  const Positions stripes{4, 2, 6};
  CHECK(stripes[0] == 4);
  CHECK(stripes[3] == 11);
  CHECK(stripes.from(2)[1] == stripes[3]);  // where a run begins
  CHECK(stripes.from(3)[0] == stripes[3]);  // within one
  CHECK(Positions{}[7] == 7);
}

}  // namespace
}  // namespace jevons
