// The gradient check itself must find what it is there for.
#include "tests/model/grad_check.h"

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "parallel/meta/meta_communicator.h"

namespace jevons::test {
namespace {

// y = x w^T with a backward that `fault` may spoil.
template <class Fault>
void check_product(Fault fault) {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const ParamId w = bed.store.add({.name = "w", .shape = {3, 4}, .init_std = 0.5});
  bed.place_weights();
  const Tensor x = bed.random({2, 4}, "x");
  check_layer(
      bed, x, {2, 3},
      [&](const Context& ctx, Tensor in) {
        const Tensor y = ctx.stash->alloc({2, 3}, DType::kF64);
        linear_forward(ctx, in, bed.store.weight(w), y);
        return y;
      },
      [&](const Context& ctx, Tensor dy) {
        const Tensor dx = ctx.work->alloc({2, 4}, DType::kF64);
        linear_backward_weight(ctx, dy, x, bed.store.grad(w));
        linear_backward_input(ctx, dy, bed.store.weight(w), dx);
        fault(ctx, dy, dx, bed.store.grad(w));
        return dx;
      });
}

}  // namespace

TEST_CASE("gradient check: passes a correct layer", "[model]") {
  check_product([](const Context&, Tensor, Tensor, Tensor) {});
}

TEST_CASE("gradient check: finds a weight gradient that is assigned", "[model][!shouldfail]") {
  check_product([](const Context& ctx, Tensor, Tensor, Tensor dw) {
    add_scaled(ctx, -1, dw, dw);  // what was there before is gone
  });
}

TEST_CASE("gradient check: finds a wrong factor", "[model][!shouldfail]") {
  check_product([](const Context& ctx, Tensor, Tensor dx, Tensor) { scale_inplace(ctx, 1 + 1e-5, dx); });
}

TEST_CASE("gradient check: finds memory that nobody wrote", "[model][!shouldfail]") {
  check_product([](const Context& ctx, Tensor, Tensor dx, Tensor) {
    add(ctx, dx, ctx.work->alloc(dx.shape, dx.dtype), dx);
  });
}

}  // namespace jevons::test
