#include "kernels/routing.h"

#include <algorithm>

#include "kernels/column_sums.h"
#include "kernels/cpu/routing.h"
#include "kernels/elementwise.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/routing.h"
#include "kernels/row/routing_backward.h"
#include "kernels/row/routing_balance.h"

namespace jevons {
namespace {

// Calls f(TypeTag<A>{}) for the two dtypes that scores may have.
template <class F>
void with_score_type(DType dtype, F&& f) {
  if (dtype == DType::kF64) return f(TypeTag<double>{});
  ENSURE(dtype == DType::kF32, "router scores are f32 or f64, not {}", name_of(dtype));
  f(TypeTag<float>{});
}

template <class T>
T* optional_ptr(const Tensor& t) {
  return t.defined() ? t.ptr<T>() : nullptr;
}

void check_segments(const char* op, const Segments& segments, std::int64_t rows) {
  ENSURE(segments.segment_len > 0 && segments.count > 0 && segments.first_row >= 0 &&
             segments.first_row + rows <= segments.segment_len * segments.count,
         "{}: rows {} to {} are not in {} segments of {}", op, segments.first_row, segments.first_row + rows,
         segments.count, segments.segment_len);
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

void validate_router_rule(const RouterRule& rule) {
  const auto require = [](bool condition, const std::string& message) {
    if (!condition) fail(ExitCode::kUsage, "router: {}", message);
  };
  require(rule.num_experts >= 1, fmt::format("num_experts is {}, wanted at least 1", rule.num_experts));
  require(rule.top_k >= 1 && rule.top_k <= rule.num_experts && rule.top_k <= kMaxTopK,
          fmt::format("top_k is {}, wanted 1 to {}", rule.top_k, std::min(rule.num_experts, kMaxTopK)));
  require(rule.groups >= 1 && rule.groups <= kMaxRouterGroups && rule.num_experts % rule.groups == 0,
          fmt::format("groups is {}, wanted a divisor of num_experts = {} up to {}", rule.groups,
                      rule.num_experts, kMaxRouterGroups));
  require(rule.groups_kept >= 1 && rule.groups_kept <= rule.groups,
          fmt::format("groups_kept is {}, wanted 1 to groups = {}", rule.groups_kept, rule.groups));
  require(rule.groups_kept * (rule.num_experts / rule.groups) >= rule.top_k,
          fmt::format("{} groups of {} experts cannot give top_k = {}", rule.groups_kept,
                      rule.num_experts / rule.groups, rule.top_k));
}

void router_forward(const Context& ctx, const RouterRule& rule, Tensor logits, Tensor bias,
                    const RouterOutput& out) {
  validate_router_rule(rule);
  const std::int64_t rows = logits.rows();
  const Shape all{rows, rule.num_experts}, chosen{rows, rule.top_k};
  OpCall op("router_forward", logits.device);
  op.reads("logits", logits, all, logits.dtype)
      .writes("scores", out.scores, all, logits.dtype)
      .writes("indices", out.indices, chosen, DType::kI32)
      .writes("weights", out.weights, chosen, logits.dtype);
  if (bias.defined()) op.reads("bias", bias, {rule.num_experts}, logits.dtype);
  op.record(ctx, WorkKind::kRow);
  with_score_type(logits.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, logits.device, rows, (2 + 2 * rule.top_k) * rule.num_experts,
                RouterKernel<A>{RouterShape<A>(rule), logits.ptr<A>(), optional_ptr<A>(bias),
                                out.scores.ptr<A>(), out.indices.ptr<std::int32_t>(), out.weights.ptr<A>()});
  });
}

void router_backward(const Context& ctx, const RouterRule& rule, Tensor d_weights, Tensor d_scores,
                     Tensor logits, const RouterOutput& out, Tensor dlogits) {
  const std::int64_t rows = logits.rows();
  const Shape all{rows, rule.num_experts}, chosen{rows, rule.top_k};
  const DType dtype = logits.dtype;
  OpCall op("router_backward", logits.device);
  op.reads("d_weights", d_weights, chosen, dtype)
      .reads("logits", logits, all, dtype)
      .reads("scores", out.scores, all, dtype)
      .reads("indices", out.indices, chosen, DType::kI32)
      .writes("dlogits", dlogits, all, dtype);
  if (d_scores.defined()) op.reads("d_scores", d_scores, all, dtype);
  op.record(ctx, WorkKind::kRow);
  with_score_type(dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, logits.device, rows, 2 * rule.num_experts,
                RouterBackwardKernel<A>{RouterShape<A>(rule), d_weights.ptr<A>(), optional_ptr<A>(d_scores),
                                        logits.ptr<A>(), out.scores.ptr<A>(), out.indices.ptr<std::int32_t>(),
                                        dlogits.ptr<A>()});
  });
}

void routing_counts(const Context& ctx, Tensor indices, const Segments& segments, Tensor counts) {
  check_segments("routing_counts", segments, indices.rows());
  OpCall("routing_counts", indices.device)
      .reads("indices", indices, {indices.rows(), indices.cols()}, DType::kI32)
      .writes("counts", counts, {segments.count, counts.cols()}, DType::kI64)
      .record(ctx, WorkKind::kRow);
  if (indices.device == Device::kCpu) return cpu::routing_counts(ctx, indices, segments, counts);
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
  with_score_type(scores.dtype, [&]<class A>(TypeTag<A>) {
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
  with_score_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, scores.device, rows, experts,
                ScoreSumsBackwardKernel<A>{scores.ptr<A>(), coefficient.ptr<A>(), d_scores.ptr<A>(), segments,
                                           experts});
  });
}

void router_z_loss(const Context& ctx, Tensor logits, double scale, Tensor sum) {
  OpCall("router_z_loss", logits.device)
      .reads("logits", logits, logits.shape, logits.dtype)
      .record(ctx, WorkKind::kRow);
  with_score_type(logits.dtype, [&]<class A>(TypeTag<A>) {
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
  with_score_type(logits.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(
        ctx, logits.device, logits.rows(), logits.cols(),
        ZLossBackwardKernel<A>{logits.ptr<A>(), dlogits.ptr<A>(), static_cast<A>(scale), logits.cols()});
  });
}

void router_entropy(const Context& ctx, Tensor scores, double scale, Tensor sum) {
  OpCall("router_entropy", scores.device)
      .reads("scores", scores, scores.shape, scores.dtype)
      .record(ctx, WorkKind::kRow);
  with_score_type(scores.dtype, [&]<class A>(TypeTag<A>) {
    add_sum_of_rows<A>(ctx, scores, scale, sum, [&](A* values) {
      return EntropyKernel<A>{scores.ptr<A>(), values, scores.cols()};
    });
  });
}

}  // namespace jevons
