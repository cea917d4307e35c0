#include "kernels/activation.h"

#include <limits>

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/swiglu.h"

namespace jevons {
namespace {

template <class A>
A* pointer_or_null(const Tensor& t) {
  return t.defined() ? t.ptr<A>() : nullptr;
}

template <class A>
A limit_of(const SwigluInput& in) {
  return in.limit > 0 ? static_cast<A>(in.limit) : std::numeric_limits<A>::infinity();
}

}  // namespace

void swiglu_forward(const Context& ctx, const SwigluInput& in, Tensor h) {
  const Tensor &gate_up = in.gate_up, &row_scale = in.row_scale;
  const std::int64_t rows = h.rows(), cols = h.cols();
  OpCall call("swiglu_forward", h.device);
  call.reads("gate_up", gate_up, {rows, 2 * cols}, h.dtype).writes("h", h, {rows, cols}, h.dtype);
  if (row_scale.defined()) call.reads("row_scale", row_scale, {rows}, accumulator_of(h.dtype));
  call.record(ctx, WorkKind::kRow);
  with_float_type(h.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(
        ctx, h.device, rows, 2 * cols,
        SwigluKernel<T>{gate_up.ptr<T>(), pointer_or_null<A>(row_scale), h.ptr<T>(), cols, limit_of<A>(in)});
  });
}

void swiglu_backward(const Context& ctx, Tensor dh, const SwigluInput& in, Tensor d_gate_up,
                     Tensor d_row_scale) {
  const Tensor &gate_up = in.gate_up, &row_scale = in.row_scale;
  const std::int64_t rows = dh.rows(), cols = dh.cols();
  const DType dtype = dh.dtype, sums = accumulator_of(dtype);
  OpCall call("swiglu_backward", dh.device);
  call.reads("dh", dh, {rows, cols}, dtype)
      .reads("gate_up", gate_up, {rows, 2 * cols}, dtype)
      .writes("d_gate_up", d_gate_up, {rows, 2 * cols}, dtype);
  ENSURE(row_scale.defined() == d_row_scale.defined(),
         "swiglu_backward: row_scale and d_row_scale are given together or not at all");
  if (row_scale.defined()) {
    call.reads("row_scale", row_scale, {rows}, sums).writes("d_row_scale", d_row_scale, {rows}, sums);
  }
  call.record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(
        ctx, dh.device, rows, 4 * cols,
        SwigluBackwardKernel<T>{dh.ptr<T>(), gate_up.ptr<T>(), pointer_or_null<A>(row_scale),
                                d_gate_up.ptr<T>(), pointer_or_null<A>(d_row_scale), cols, limit_of<A>(in)});
  });
}

}  // namespace jevons
