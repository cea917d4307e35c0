#include "trainer/model/moe.h"

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

DispatchOptions dispatch_options(const MoeConfig& moe, std::int64_t layer) {
  return {.num_experts = moe.router.num_experts,
          .top_k = moe.router.top_k,
          .capacity_factor = moe.capacity_factor,
          .reduce_at_expert = moe.reduce_at_expert,
          .layer = fmt::format("layers.{}.moe", layer)};
}

std::optional<DenseFfn> shared_expert(ParamStore& store, const ModelConfig& config, std::int64_t layer) {
  const std::int64_t hidden_size = config.moe.num_shared_experts * config.moe.expert_hidden_size;
  if (hidden_size == 0) return std::nullopt;
  return DenseFfn(store, config, fmt::format("layers.{}.moe.shared", layer), hidden_size);
}

}  // namespace

Moe::Moe(ParamStore& store, const ModelConfig& config, std::int64_t layer)
    : tp_(&store.mesh().tp()),
      seq_len_(config.seq_len),
      recompute_(config.recompute),
      router_(store, config, fmt::format("layers.{}.moe.router", layer)),
      dispatcher_(store.mesh().ep(), dispatch_options(config.moe, layer)),
      experts_(store, config, fmt::format("layers.{}.moe.experts", layer), dispatcher_.first_expert(),
               dispatcher_.local_experts()),
      shared_(shared_expert(store, config, layer)),
      balance_(store, config.moe) {}

Tensor Moe::forward(const Context& ctx, Tensor x, Saved& saved) const {
  router_.forward(ctx, x, balance_.selection_bias(), saved.routing);
  saved.plan = dispatcher_.plan(ctx, saved.routing.out.indices, *ctx.stash);
  saved.row_weight = ctx.stash->alloc({saved.plan.rows}, saved.routing.out.weights.dtype);
  dispatcher_.out_scalars(ctx, saved.plan, saved.routing.out.weights, saved.row_weight);

  const Context kept = recompute_ == Recompute::kFull ? scratch(ctx) : ctx;
  const auto run_shared = [&] { return shared_ ? shared_->forward(kept, x, saved.shared) : Tensor{}; };
  const Tensor from_shared = dispatch(kept, x, saved, run_shared);

  const Tensor rows = experts_.contract(ctx, saved.plan.expert_offsets, saved.row_weight, saved.experts);
  const Tensor y = ctx.work->alloc(x.shape, x.dtype);
  dispatcher_.home_end(ctx, saved.plan, dispatcher_.home_begin(ctx, saved.plan, rows), y);
  if (from_shared.defined()) add(ctx, y, from_shared, y);

  saved.x = recompute_ == Recompute::kNone ? x : Tensor{};
  if (recompute_ == Recompute::kFull) saved.experts = {}, saved.shared = {};
  return y;
}

void Moe::restore(const Context& ctx, Tensor x, Saved& saved) const {
  saved.x = x;
  const auto restore_shared = [&] {
    if (shared_) shared_->restore(ctx, x, saved.shared);
    return Tensor{};
  };
  if (saved.experts.rows.defined()) {
    restore_shared();
  } else {
    dispatch(scratch(ctx), x, saved, restore_shared);
  }
}

template <class Meanwhile>
Tensor Moe::dispatch(const Context& ctx, Tensor x, Saved& saved, Meanwhile meanwhile) const {
  const Tensor rows = ctx.stash->alloc({saved.plan.rows, x.cols()}, x.dtype);
  TokenDispatcher::Move move = dispatcher_.out_begin(ctx, saved.plan, x);
  const Tensor result = meanwhile();
  dispatcher_.out_end(ctx, saved.plan, std::move(move), rows);
  experts_.expand(ctx, saved.plan.expert_offsets, rows, saved.experts);
  return result;
}

Tensor Moe::backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  const DispatchPlan& plan = saved.plan;
  const Tensor dx = ctx.work->alloc(dy.shape, dy.dtype);
  const Tensor dy_rows = ctx.work->alloc({plan.rows, dy.cols()}, dy.dtype);
  TokenDispatcher::Move out = dispatcher_.out_begin(ctx, plan, dy);
  const Tensor dx_shared = shared_ ? shared_->backward(ctx, dy, saved.shared) : Tensor{};
  dispatcher_.out_end(ctx, plan, std::move(out), dy_rows);

  const Experts::Gradients g =
      experts_.backward_input(ctx, plan.expert_offsets, dy_rows, saved.row_weight, saved.experts);
  TokenDispatcher::Move home = dispatcher_.home_begin(ctx, plan, g.rows);
  experts_.backward_weight(ctx, experts_.sources() > 1 ? plan.source_offsets : plan.expert_offsets, dy_rows,
                           g, saved.experts);
  const Tensor dx_router = backward_router(ctx, g.row_scale, saved, scales);
  dispatcher_.home_end(ctx, plan, std::move(home), dx);
  if (dx_shared.defined()) add(ctx, dx, dx_shared, dx);
  add_scaled(ctx, 1, dx_router, dx);
  return dx;
}

Tensor Moe::backward_router(const Context& ctx, Tensor d_row_weight, Saved& saved, const LossScales& scales) {
  Router::Gradients g;
  g.weights = ctx.work->alloc(saved.routing.out.weights.shape, saved.routing.out.weights.dtype);
  dispatcher_.home_scalars(ctx, saved.plan, d_row_weight, g.weights);
  g.scores = balance_.accumulate(ctx,
                                 {.logits = saved.routing.logits,
                                  .out = saved.routing.out,
                                  .sequences = sequences(saved.x.rows()),
                                  .dropped = saved.plan.dropped,
                                  .rows = saved.plan.rows},
                                 scales);
  g.z_scale = balance_.z_scale(scales);
  return router_.backward(ctx, saved.x, g, saved.routing);
}

Segments Moe::sequences(std::int64_t rows) const {
  const std::int64_t micro_batch = rows * tp_->size();
  ENSURE(micro_batch % seq_len_ == 0, "{} rows of a micro-batch are no whole sequences of {}", micro_batch,
         seq_len_);
  return {.first_row = rows * tp_->rank(), .segment_len = seq_len_, .count = micro_batch / seq_len_};
}

}  // namespace jevons
