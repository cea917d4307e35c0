#include "kernels/moe/routing.h"

#include <algorithm>

#include "kernels/moe/routing_row.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

template <class T>
T* optional_ptr(const Tensor& t) {
  return t.defined() ? t.ptr<T>() : nullptr;
}

// What the kernels' arrays and loops take; trainer/config judges what people ask for.
void check_rule(const RouterRule& r) {
  ENSURE(r.num_experts >= 1 && r.top_k >= 1 && r.top_k <= std::min(r.num_experts, kMaxTopK),
         "router: top_k {} of {} experts, at most {}", r.top_k, r.num_experts, kMaxTopK);
  ENSURE(r.groups >= 1 && r.groups <= kMaxRouterGroups && r.num_experts % r.groups == 0,
         "router: {} experts in {} groups, at most {}", r.num_experts, r.groups, kMaxRouterGroups);
  ENSURE(r.groups_kept >= 1 && r.groups_kept <= r.groups &&
             r.groups_kept * (r.num_experts / r.groups) >= r.top_k,
         "router: {} of {} groups kept for top_k {}", r.groups_kept, r.groups, r.top_k);
}

}  // namespace

void router_forward(const Context& ctx, const RouterRule& rule, Tensor logits, Tensor bias,
                    const RouterOutput& out) {
  check_rule(rule);
  const std::int64_t rows = logits.rows();
  const Shape all{rows, rule.num_experts}, chosen{rows, rule.top_k};
  OpCall op("router_forward", logits.device);
  op.reads("logits", logits, all, logits.dtype)
      .writes("scores", out.scores, all, logits.dtype)
      .writes("indices", out.indices, chosen, DType::kI32)
      .writes("weights", out.weights, chosen, logits.dtype);
  if (bias.defined()) op.reads("bias", bias, {rule.num_experts}, logits.dtype);
  op.record(ctx, WorkKind::kRow);
  with_accumulator_type(logits.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, logits.device, rows, (2 + 2 * rule.top_k) * rule.num_experts,
                RouterKernel<A>{RouterShape<A>(rule), logits.ptr<A>(), optional_ptr<A>(bias),
                                out.scores.ptr<A>(), out.indices.ptr<std::int32_t>(), out.weights.ptr<A>()});
  });
}

void router_backward(const Context& ctx, const RouterRule& rule, Tensor logits, const RouterOutput& out,
                     const RouterGrads& grads) {
  const std::int64_t rows = logits.rows();
  const Shape all{rows, rule.num_experts}, chosen{rows, rule.top_k};
  const DType dtype = logits.dtype;
  OpCall op("router_backward", logits.device);
  op.reads("d_weights", grads.d_weights, chosen, dtype)
      .reads("logits", logits, all, dtype)
      .reads("scores", out.scores, all, dtype)
      .reads("indices", out.indices, chosen, DType::kI32)
      .writes("dlogits", grads.dlogits, all, dtype);
  if (grads.d_scores.defined()) op.reads("d_scores", grads.d_scores, all, dtype);
  op.record(ctx, WorkKind::kRow);
  with_accumulator_type(dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, logits.device, rows, 2 * rule.num_experts,
                RouterBackwardKernel<A>{RouterShape<A>(rule), grads.d_weights.ptr<A>(),
                                        optional_ptr<A>(grads.d_scores), logits.ptr<A>(), out.scores.ptr<A>(),
                                        out.indices.ptr<std::int32_t>(), grads.dlogits.ptr<A>()});
  });
}

}  // namespace jevons
