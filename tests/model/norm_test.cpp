#include "trainer/model/norm.h"

#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"
#include "tests/support/compare.h"

namespace jevons::test {

TEST_CASE("norm layer: gradients", "[model]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const Norm norm(bed.store, "norm", 6, 1e-5);
  bed.place_weights();
  Norm::Saved saved;
  check_layer(
      bed, bed.random({5, 6}, "x"), {5, 6},
      [&](const Context& ctx, Tensor x) { return norm.forward(ctx, x, saved); },
      [&](const Context& ctx, Tensor dy) { return backward(norm, ctx, dy, saved); });
}

// y = norm(x + r) with the sum also passed on: L = <p, y> + <q, x + r>.
TEST_CASE("norm layer: gradients with the residual stream fused in", "[model]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const Norm norm(bed.store, "norm", 6, 1e-5);
  bed.place_weights();
  const Tensor x = bed.random({5, 6}, "x"), r = bed.random({5, 6}, "r");
  const Tensor p = bed.random({5, 6}, "p"), q = bed.random({5, 6}, "q");
  Norm::Saved saved;
  GradProblem problem;
  problem.inputs = {x, r};
  problem.loss = [&](const Context& ctx) {
    const Tensor h = ctx.stash->alloc(x.shape, x.dtype);
    const Tensor y = norm.forward_add(ctx, x, r, h, *ctx.stash, saved);
    return dot(y, p) + dot(h, q);
  };
  problem.backward = [&](const Context& ctx) {
    const Tensor dh = ctx.work->alloc(x.shape, x.dtype);
    std::memcpy(dh.data, q.data, q.bytes());
    norm.backward_add(ctx, p, dh, dh, saved);
    return std::vector<Tensor>{dh, dh};
  };
  check_gradients(bed, problem);
}

TEST_CASE("norm layer: again() gives the same bits", "[model]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  const Norm norm(bed.store, "norm", 40, 1e-5);
  bed.place_weights();
  Norm::Saved saved;
  const Tensor y = norm.forward(bed.ctx, bed.random({7, 40}, "x"), bed.stash, saved);
  CHECK(to_vector(norm.again(bed.ctx, bed.work, saved)) == to_vector(y));
}

}  // namespace jevons::test
