#include "kernels/rope.h"

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/rope.h"

namespace jevons {
namespace {

enum class Turn { kForward, kBackward };

void rotate(const Context& ctx, Turn turn, const HeadView& x, const Rotation& by) {
  const char* const op = turn == Turn::kForward ? "rope_forward" : "rope_backward";
  const DType dtype = x.base.dtype, sums = accumulator_of(dtype);
  const std::int64_t tokens = x.base.shape[0], half = x.head_dim / 2;
  ENSURE(x.head_dim % 2 == 0, "{}: head_dim is {}, wanted an even number", op, x.head_dim);
  OpCall(op, x.base.device)
      .updates("x", x, x, dtype)
      .reads("positions", by.positions, {tokens}, DType::kI32)
      .uses("cos", by.cos, {by.cos.rows(), half}, sums)
      .uses("sin", by.sin, {by.cos.rows(), half}, sums)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    const A direction = turn == Turn::kForward ? A(1) : A(-1);
    const RopeRow<T> row{
        rows_of<T>(x), by.positions.ptr<std::int32_t>(), by.cos.ptr<A>(), by.sin.ptr<A>(), half, direction};
    const auto launch = [&](const auto& kernel) {
      launch_rows(ctx, x.base.device, tokens * x.heads, x.head_dim, kernel);
    };
    if (by.layout == RopeLayout::kHalf) return launch(RopeKernel<T>{row});
    launch(RopeInterleavedKernel<T>{row});
  });
}

}  // namespace

void token_positions(const Context& ctx, std::int64_t length, const Positions& at, Tensor positions) {
  OpCall("token_positions", positions.device)
      .writes("positions", positions, {positions.numel()}, DType::kI32)
      .record(ctx, WorkKind::kRow);
  ENSURE(length > 0, "token_positions: sequences of {} tokens", length);
  launch_flat(ctx, positions.device, positions.numel(),
              TokenPositionsKernel{positions.ptr<std::int32_t>(), positions.numel(), length, at});
}

void rope_forward(const Context& ctx, HeadView x, const Rotation& by) {
  rotate(ctx, Turn::kForward, x, by);
}

void rope_backward(const Context& ctx, HeadView dx, const Rotation& by) {
  rotate(ctx, Turn::kBackward, dx, by);
}

}  // namespace jevons
