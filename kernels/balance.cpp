#include "kernels/balance.h"

#include "kernels/elementwise.h"
#include "kernels/op_call.h"
#include "kernels/row/balance.h"
#include "kernels/row/launch.h"
#include "kernels/row/reduce.h"

namespace jevons {

void add_counts(const Context& ctx, Tensor counts, Tensor total) {
  const std::int64_t segments = counts.rows(), experts = counts.cols();
  OpCall("add_counts", counts.device)
      .reads("counts", counts, {segments, experts}, DType::kI64)
      .updates("total", total, {experts}, DType::kI64)
      .record(ctx, WorkKind::kRow);
  if (segments == 0) return;
  launch_rows(ctx, counts.device, blocks_of(experts, kColumnBlock), segments * kColumnBlock,
              ColumnSumsKernel<std::int64_t>{.x = counts.ptr<std::int64_t>(),
                                             .sums = total.ptr<std::int64_t>(),
                                             .rows = segments,
                                             .cols = experts,
                                             .run = segments,
                                             .add = true});
}

void balance_weights(const Context& ctx, const BalanceLoads& loads, const BalanceFactors& factors,
                     Tensor score_sums, Tensor coefficient, Tensor values) {
  const std::int64_t segments = score_sums.rows(), experts = score_sums.cols();
  OpCall("balance_weights", score_sums.device)
      .reads("sequence", loads.sequence, {segments, experts}, DType::kI64)
      .reads("micro_batch", loads.micro_batch, {experts}, DType::kI64)
      .reads("global", loads.global, {experts}, DType::kI64)
      .reads("score_sums", score_sums, {segments, experts}, score_sums.dtype)
      .writes("coefficient", coefficient, {segments, experts}, score_sums.dtype)
      .updates("values", values, {kBalanceLosses}, DType::kF64)
      .record(ctx, WorkKind::kRow);
  ENSURE(ctx.work != nullptr, "balance_weights needs the work arena");
  ENSURE(score_sums.dtype == accumulator_of(score_sums.dtype), "balance_weights: score sums are {}",
         name_of(score_sums.dtype));
  const ArenaScope scope(*ctx.work);
  const Tensor of_segments = ctx.work->alloc({segments, kBalanceLosses}, DType::kF64);
  with_float_type(score_sums.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(
        ctx, score_sums.device, segments, experts,
        BalanceWeightsKernel<A>{loads.sequence.ptr<std::int64_t>(), loads.micro_batch.ptr<std::int64_t>(),
                                loads.global.ptr<std::int64_t>(), score_sums.ptr<A>(), coefficient.ptr<A>(),
                                of_segments.ptr<double>(), factors, experts});
  });
  add_column_sums(ctx, 1, of_segments, values);
}

}  // namespace jevons
