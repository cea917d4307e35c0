#include "kernels/moe/margins.h"

#include "kernels/moe/margins_row.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"

namespace jevons {

void margin_counts(const Context& ctx, Tensor scores, Tensor indices, Tensor bias, Tensor histograms) {
  const std::int64_t rows = scores.rows(), experts = scores.cols(), top_k = indices.cols();
  OpCall("margin_counts", scores.device)
      .reads("scores", scores, {rows, experts}, scores.dtype)
      .reads("indices", indices, {rows, top_k}, DType::kI32)
      .reads("bias", bias, {experts}, scores.dtype)
      .updates("histograms", histograms, {experts, kMarginBins}, DType::kI64)
      .record(ctx, WorkKind::kRow);
  ENSURE(top_k < experts, "margin_counts: {} of {} experts chosen leave no threshold", top_k, experts);
  ENSURE(ctx.work != nullptr, "margin_counts needs the work arena");
  const ArenaScope scope(*ctx.work);
  const Tensor thresholds = ctx.work->alloc({rows}, scores.dtype);
  with_accumulator_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, scores.device, rows, experts,
                ThresholdKernel<A>{scores.ptr<A>(), bias.ptr<A>(), indices.ptr<std::int32_t>(),
                                   thresholds.ptr<A>(), experts, top_k});
    launch_rows(ctx, scores.device, experts, rows,
                MarginCountsKernel<A>{scores.ptr<A>(), bias.ptr<A>(), thresholds.ptr<A>(),
                                      histograms.ptr<std::int64_t>(), rows, experts});
  });
}

}  // namespace jevons
