#include "kernels/moe/balance.h"

#include <algorithm>

#include "kernels/column_sums.h"
#include "kernels/cpu/launch.h"
#include "kernels/elementwise.h"
#include "kernels/moe/balance_row.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

void check_segments(const char* op, const Segments& segments, std::int64_t rows) {
  ENSURE(segments.segment_len > 0 && segments.count > 0 && segments.first_row >= 0 &&
             segments.first_row + rows <= segments.segment_len * segments.count,
         "{}: rows {} to {} are not in {} segments of {}", op, segments.first_row, segments.first_row + rows,
         segments.count, segments.segment_len);
}

// A segment in one pass, where there are fewer threads than segments and experts.
void count_on_cpu(const Context& ctx, Tensor indices, const Segments& segments, Tensor counts) {
  const std::int32_t* const index = indices.ptr<std::int32_t>();
  std::int64_t* const out = counts.ptr<std::int64_t>();
  const std::int64_t rows = indices.rows(), top_k = indices.cols(), experts = counts.cols();
  parallel_for(ctx, segments.count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t segment = begin; segment < end; ++segment) {
      std::int64_t* const count = out + segment * experts;
      std::fill_n(count, experts, 0);
      const RowRange range = rows_of_segment(segments, segment, rows);
      for (std::int64_t i = range.begin * top_k; i < range.end * top_k; ++i) {
        ENSURE(index[i] >= 0 && index[i] < experts, "routing_counts: expert {} of {}", index[i], experts);
        ++count[index[i]];
      }
    }
  });
}

// sum (1) f64 += scale * sum of one value per row of x, which the kernel writes that `make(values)` makes.
template <class A, class Make>
void add_sum_of_rows(const Context& ctx, const Tensor& x, double scale, const Tensor& sum, Make make) {
  ENSURE(ctx.work != nullptr, "a reduction needs the work arena");
  const ArenaScope scope(*ctx.work);
  const Tensor values = ctx.work->alloc({x.rows(), 1}, x.dtype);
  launch_rows(ctx, x.device, x.rows(), x.cols(), make(values.ptr<A>()));
  add_column_sums(ctx, scale, values, sum);
}

}  // namespace

void routing_counts(const Context& ctx, Tensor indices, const Segments& segments, Tensor counts) {
  check_segments("routing_counts", segments, indices.rows());
  OpCall("routing_counts", indices.device)
      .reads("indices", indices, {indices.rows(), indices.cols()}, DType::kI32)
      .writes("counts", counts, {segments.count, counts.cols()}, DType::kI64)
      .record(ctx, WorkKind::kRow);
  if (indices.device == Device::kCpu) return count_on_cpu(ctx, indices, segments, counts);
  const std::int64_t rows = indices.rows(), top_k = indices.cols(), experts = counts.cols();
  launch_rows(ctx, indices.device, segments.count * experts, std::min(rows, segments.segment_len) * top_k,
              RoutingCountsKernel{indices.ptr<std::int32_t>(), counts.ptr<std::int64_t>(), segments, rows,
                                  top_k, experts});
}

void score_sums(const Context& ctx, Tensor scores, const Segments& segments, Tensor sums) {
  const std::int64_t rows = scores.rows(), experts = scores.cols();
  check_segments("score_sums", segments, rows);
  OpCall("score_sums", scores.device)
      .reads("scores", scores, {rows, experts}, scores.dtype)
      .writes("sums", sums, {segments.count, experts}, scores.dtype)
      .record(ctx, WorkKind::kRow);
  ENSURE(ctx.work != nullptr, "score_sums needs the work arena");
  const ArenaScope scope(*ctx.work);
  const Tensor scale = ctx.work->alloc({rows}, scores.dtype);
  // The CPU adds up a segment in one go; a GPU needs many parts to be busy.
  const std::int64_t part_rows = scores.device == Device::kCuda ? 32 : segments.segment_len;
  const std::int64_t parts = blocks_of(segments.segment_len, part_rows);
  const Shape parts_shape{segments.count, parts, experts};
  const Tensor partial = parts > 1 ? ctx.work->alloc(parts_shape, scores.dtype) : sums.reshape(parts_shape);
  with_accumulator_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, scores.device, rows, experts,
                ScoreScaleKernel<A>{scores.ptr<A>(), scale.ptr<A>(), experts});
    launch_rows(ctx, scores.device, segments.count * parts * blocks_of(experts, kColumnBlock),
                part_rows * kColumnBlock,
                ScoreSumsKernel<A>{scores.ptr<A>(), scale.ptr<A>(), partial.ptr<A>(), segments, part_rows,
                                   rows, experts});
  });
  if (parts > 1) column_sums(ctx, partial, sums, Sums::kAssign);
}

void score_sums_backward(const Context& ctx, Tensor scores, const Segments& segments, Tensor coefficient,
                         Tensor d_scores) {
  const std::int64_t rows = scores.rows(), experts = scores.cols();
  check_segments("score_sums_backward", segments, rows);
  OpCall("score_sums_backward", scores.device)
      .reads("scores", scores, {rows, experts}, scores.dtype)
      .reads("coefficient", coefficient, {segments.count, experts}, scores.dtype)
      .writes("d_scores", d_scores, {rows, experts}, scores.dtype)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, scores.device, rows, experts,
                ScoreSumsBackwardKernel<A>{scores.ptr<A>(), coefficient.ptr<A>(), d_scores.ptr<A>(), segments,
                                           experts});
  });
}

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
  const ArenaScope scope(*ctx.work);
  const Tensor of_segments = ctx.work->alloc({segments, kBalanceLosses}, DType::kF64);
  with_accumulator_type(score_sums.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(
        ctx, score_sums.device, segments, experts,
        BalanceWeightsKernel<A>{loads.sequence.ptr<std::int64_t>(), loads.micro_batch.ptr<std::int64_t>(),
                                loads.global.ptr<std::int64_t>(), score_sums.ptr<A>(), coefficient.ptr<A>(),
                                of_segments.ptr<double>(), factors, experts});
  });
  add_column_sums(ctx, 1, of_segments, values);
}

void router_z_loss(const Context& ctx, Tensor logits, double scale, Tensor sum) {
  OpCall("router_z_loss", logits.device)
      .reads("logits", logits, logits.shape, logits.dtype)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(logits.dtype, [&]<class A>(TypeTag<A>) {
    add_sum_of_rows<A>(ctx, logits, scale, sum, [&](A* values) {
      return ZLossKernel<A>{logits.ptr<A>(), values, logits.cols()};
    });
  });
}

void router_z_loss_backward(const Context& ctx, Tensor logits, double scale, Tensor dlogits) {
  OpCall("router_z_loss_backward", logits.device)
      .reads("logits", logits, logits.shape, logits.dtype)
      .updates("dlogits", dlogits, logits.shape, logits.dtype)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(logits.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(
        ctx, logits.device, logits.rows(), logits.cols(),
        ZLossBackwardKernel<A>{logits.ptr<A>(), dlogits.ptr<A>(), static_cast<A>(scale), logits.cols()});
  });
}

void router_entropy(const Context& ctx, Tensor scores, double scale, Tensor sum) {
  OpCall("router_entropy", scores.device)
      .reads("scores", scores, scores.shape, scores.dtype)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    add_sum_of_rows<A>(ctx, scores, scale, sum, [&](A* values) {
      return EntropyKernel<A>{scores.ptr<A>(), values, scores.cols()};
    });
  });
}

}  // namespace jevons
