#include "kernels/cross_entropy.h"

#include "kernels/op_call.h"
#include "kernels/row/cross_entropy.h"
#include "kernels/row/launch.h"

namespace jevons {

void cross_entropy_stats(const Context& ctx, Tensor logits, const Targets& of, Tensor stats) {
  const Tensor& targets = of.ids;
  const std::int64_t rows = targets.numel(), cols = logits.cols();
  OpCall("cross_entropy_stats", logits.device)
      .reads("logits", logits, {rows, cols}, logits.dtype)
      .reads("targets", targets, {rows}, DType::kI32)
      .writes("stats", stats, {rows, 3}, accumulator_of(logits.dtype))
      .record(ctx, WorkKind::kRow);
  with_float_type(logits.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, logits.device, rows, 2 * cols,
                CrossEntropyStatsKernel<T>{logits.ptr<T>(), targets.ptr<std::int32_t>(), stats.ptr<A>(), cols,
                                           of.vocab_begin});
  });
}

void cross_entropy_combine(const Context& ctx, Tensor gathered, Tensor targets, Tensor loss, Tensor lse) {
  const std::int64_t parts = gathered.shape[0], rows = targets.numel();
  const DType dtype = gathered.dtype;
  OpCall("cross_entropy_combine", gathered.device)
      .reads("gathered", gathered, {parts, rows, 3}, accumulator_of(dtype))
      .reads("targets", targets, {rows}, DType::kI32)
      .writes("loss", loss, {rows}, dtype)
      .writes("lse", lse, {rows}, dtype)
      .record(ctx, WorkKind::kRow);
  ENSURE(parts >= 1, "cross_entropy_combine: gathered is {}, wanted at least one part", gathered.to_string());
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_flat(ctx, gathered.device, rows,
                CrossEntropyCombineKernel<A>{gathered.ptr<A>(), targets.ptr<std::int32_t>(), loss.ptr<A>(),
                                             lse.ptr<A>(), parts, rows});
  });
}

void cross_entropy_backward(const Context& ctx, Tensor logits, const Targets& of, Tensor lse, double scale,
                            Tensor dlogits) {
  const Tensor& targets = of.ids;
  const std::int64_t rows = targets.numel(), cols = logits.cols();
  const DType dtype = logits.dtype;
  OpCall("cross_entropy_backward", logits.device)
      .reads("logits", logits, {rows, cols}, dtype)
      .reads("targets", targets, {rows}, DType::kI32)
      .reads("lse", lse, {rows}, accumulator_of(dtype))
      .writes("dlogits", dlogits, {rows, cols}, dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, logits.device, rows, 2 * cols,
                CrossEntropyBackwardKernel<T>{logits.ptr<T>(), targets.ptr<std::int32_t>(), lse.ptr<A>(),
                                              dlogits.ptr<T>(), cols, of.vocab_begin, static_cast<A>(scale)});
  });
}

}  // namespace jevons
