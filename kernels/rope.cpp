#include "kernels/rope.h"

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/rope.h"

namespace jevons {
namespace {

enum class Turn { kForward, kBackward };

void rotate(const Context& ctx, Turn turn, const HeadView& x, const Tensor& positions, const Tensor& cos,
            const Tensor& sin) {
  const char* const op = turn == Turn::kForward ? "rope_forward" : "rope_backward";
  const DType dtype = x.base.dtype, sums = accumulator_of(dtype);
  const std::int64_t tokens = x.base.shape[0], half = x.head_dim / 2;
  ENSURE(x.head_dim % 2 == 0, "{}: head_dim is {}, wanted an even number", op, x.head_dim);
  OpCall(op, x.base.device)
      .updates("x", x, x, dtype)
      .reads("positions", positions, {tokens}, DType::kI32)
      .uses("cos", cos, {cos.rows(), half}, sums)
      .uses("sin", sin, {cos.rows(), half}, sums)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    const A direction = turn == Turn::kForward ? A(1) : A(-1);
    launch_rows(ctx, x.base.device, tokens * x.heads, x.head_dim,
                RopeKernel<T>{rows_of<T>(x), positions.ptr<std::int32_t>(), cos.ptr<A>(), sin.ptr<A>(), half,
                              direction});
  });
}

}  // namespace

void token_positions(const Context& ctx, std::int64_t length, Tensor positions) {
  OpCall("token_positions", positions.device)
      .writes("positions", positions, {positions.numel()}, DType::kI32)
      .record(ctx, WorkKind::kRow);
  ENSURE(length > 0, "token_positions: sequences of {} tokens", length);
  launch_flat(ctx, positions.device, positions.numel(),
              TokenPositionsKernel{positions.ptr<std::int32_t>(), positions.numel(), length});
}

void rope_forward(const Context& ctx, HeadView x, Tensor positions, Tensor cos, Tensor sin) {
  rotate(ctx, Turn::kForward, x, positions, cos, sin);
}

void rope_backward(const Context& ctx, HeadView dx, Tensor positions, Tensor cos, Tensor sin) {
  rotate(ctx, Turn::kBackward, dx, positions, cos, sin);
}

}  // namespace jevons
