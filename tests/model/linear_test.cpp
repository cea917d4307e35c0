#include "trainer/model/linear.h"

#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"
#include "tests/support/compare.h"

namespace jevons::test {
namespace {

ParamSpec spec(const char* name, std::int64_t rows) {
  return {.name = name, .shape = {rows, 5}, .init_std = 0.5};
}

}  // namespace

TEST_CASE("linear: gradients", "[model]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const Linear linear(bed.store, {spec("a", 3), spec("b", 4)});
  bed.place_weights();
  Linear::Saved saved;
  check_layer(
      bed, bed.random({6, 5}, "x"), {6, 7},
      [&](const Context& ctx, Tensor x) { return linear.forward(ctx, x, saved); },
      [&](const Context& ctx, Tensor dy) { return backward(linear, ctx, dy, saved); });
}

TEST_CASE("linear: parts follow one another in the output", "[model]") {
  MetaCommunicator world(0, 1);
  TestBed fused_bed(world), single_bed(world);
  const Linear fused(fused_bed.store, {spec("a", 3), spec("b", 4)});
  const Linear single(single_bed.store, {spec("b", 4)});
  fused_bed.place_weights();
  single_bed.place_weights();
  const Tensor x = fused_bed.random({2, 5}, "x");
  Linear::Saved dropped;
  const Tensor all = fused.forward(fused_bed.ctx, x, dropped), b = single.forward(single_bed.ctx, x, dropped);
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t col = 0; col < 4; ++col)
      CHECK(element(all, row * 7 + 3 + col) == element(b, row * 4 + col));
  }
}

}  // namespace jevons::test
