#include "trainer/model/moe.h"

#include <fmt/core.h>

#include <utility>

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
      seq_len_(config.seq_len / store.mesh().cp().size()),
      num_chunks_(config.moe.dispatch_chunks),
      router_(store, config, fmt::format("layers.{}.moe.router", layer),
              fmt::format("layers.{}.ffn.down", layer)),
      dispatcher_(store.mesh().ep(), dispatch_options(config.moe, layer)),
      experts_(store, config,
               {.experts = fmt::format("layers.{}.moe.experts", layer),
                .dense_ffn = fmt::format("layers.{}.ffn", layer)},
               dispatcher_.first_expert(), dispatcher_.local_experts()),
      shared_(shared_expert(store, config, layer)),
      balance_(store, config.moe) {
  ENSURE(num_chunks_ >= 1, "{} chunks", num_chunks_);
}

Tensor Moe::forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const {
  const Context& ctx = keep.products;
  saved.x = x;
  router_.forward(keep.choices, x, balance_.selection_bias(), saved.routing);
  saved.chunks = plan(keep.choices, saved.routing.out);
  Tensor from_shared;
  std::vector<TokenDispatcher::Move> home;
  dispatch(
      ctx, x, saved.chunks,
      [&] {
        if (shared_) from_shared = shared_->forward(keep, x, sequences, saved.shared);
      },
      [&](Chunk& chunk, Tensor rows) {
        const Experts::Offsets offsets = chunk.plan.expert_offsets;
        experts_.expand(ctx, offsets, rows, chunk.experts);
        const Tensor out = experts_.contract(ctx, offsets, chunk.row_weight, chunk.experts);
        home.push_back(dispatcher_.home_begin(ctx, chunk.plan, out));
      });
  const Tensor y = ctx.work->alloc(x.shape, x.dtype);
  combine(ctx, saved.chunks, home, y);
  if (from_shared.defined()) add(ctx, y, from_shared, y);
  return y;
}

void Moe::restore(const Context& ctx, Tensor x, Saved& saved) const {
  saved.x = x;
  const auto restore_shared = [&] {
    if (shared_) shared_->restore(ctx, x, saved.shared);
  };
  if (saved.chunks.front().experts.rows.defined()) return restore_shared();
  dispatch(ctx, x, saved.chunks, restore_shared, [&](Chunk& chunk, Tensor rows) {
    experts_.expand(ctx, chunk.plan.expert_offsets, rows, chunk.experts);
  });
}

std::vector<Moe::Chunk> Moe::plan(const Context& ctx, const RouterOutput& routed) const {
  std::vector<Chunk> chunks(static_cast<std::size_t>(num_chunks_));
  const std::int64_t tokens = routed.indices.rows();
  for (std::int64_t i = 0; i < num_chunks_; ++i) {
    Chunk& chunk = chunks[static_cast<std::size_t>(i)];
    chunk.first_token = tokens * i / num_chunks_;
    const Tensor indices = routed.indices.slice(chunk.first_token, tokens * (i + 1) / num_chunks_);
    chunk.plan = dispatcher_.plan(ctx, indices, *ctx.stash);
    chunk.row_weight = ctx.stash->alloc({chunk.plan.rows}, routed.weights.dtype);
    dispatcher_.out_scalars(ctx, chunk.plan, chunk.of(routed.weights), chunk.row_weight);
  }
  return chunks;
}

template <class Meanwhile, class Compute>
void Moe::dispatch(const Context& ctx, Tensor x, std::vector<Chunk>& chunks, Meanwhile meanwhile,
                   Compute compute) const {
  struct Arrival {
    Tensor rows;
    TokenDispatcher::Move move;
  };
  const auto send = [&](const Chunk& chunk) {
    const Tensor rows = ctx.stash->alloc({chunk.plan.rows, x.cols()}, x.dtype);
    return Arrival{rows, dispatcher_.out_begin(ctx, chunk.plan, chunk.of(x))};
  };
  Arrival next = send(chunks.front());
  meanwhile();
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    Arrival now = std::move(next);
    if (i + 1 < chunks.size()) next = send(chunks[i + 1]);
    dispatcher_.out_end(ctx, chunks[i].plan, std::move(now.move), now.rows);
    compute(chunks[i], now.rows);
  }
}

Tensor Moe::backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  return backward(ctx, dy, saved, scales, WeightHalf::kLater);
}

Tensor Moe::backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) {
  return backward(ctx, dy, saved, scales, WeightHalf::kAtOnce);
}

Tensor Moe::backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales,
                     WeightHalf weights) {
  const Tensor dx = ctx.work->alloc(dy.shape, dy.dtype);
  Tensor dx_shared;
  std::vector<TokenDispatcher::Move> home;
  std::vector<Tensor> d_row_weight;
  dispatch(
      ctx, dy, saved.chunks,
      [&] {
        if (!shared_) return;
        dx_shared = shared_->backward_input(ctx, dy, saved.shared, scales);
        if (weights == WeightHalf::kAtOnce) shared_->backward_weight(ctx, saved.shared);
      },
      [&](Chunk& chunk, Tensor dy_rows) {
        const Experts::Gradients g =
            experts_.backward_input(ctx, chunk.plan.expert_offsets, dy_rows, chunk.row_weight, chunk.experts);
        home.push_back(dispatcher_.home_begin(ctx, chunk.plan, g.rows));
        if (weights == WeightHalf::kAtOnce) {
          experts_.backward_weight(ctx, weight_offsets(chunk), chunk.experts);
        }
        d_row_weight.push_back(g.row_scale);
      });
  const Tensor routed = saved.routing.out.weights;
  const Tensor d_weights = ctx.work->alloc(routed.shape, routed.dtype);
  for (std::size_t i = 0; i < saved.chunks.size(); ++i) {
    const Chunk& chunk = saved.chunks[i];
    dispatcher_.home_scalars(ctx, chunk.plan, d_row_weight[i], chunk.of(d_weights));
  }
  const Tensor dx_router = backward_router(ctx, d_weights, saved, scales);
  combine(ctx, saved.chunks, home, dx);
  if (dx_shared.defined()) add(ctx, dx, dx_shared, dx);
  add_scaled(ctx, 1, dx_router, dx);
  return dx;
}

void Moe::backward_weight(const Context& ctx, const Saved& saved) const {
  if (shared_) shared_->backward_weight(ctx, saved.shared);
  for (const Chunk& chunk : saved.chunks) {
    experts_.backward_weight(ctx, weight_offsets(chunk), chunk.experts);
  }
}

Experts::Offsets Moe::weight_offsets(const Chunk& chunk) const {
  return experts_.sources() > 1 ? chunk.plan.source_offsets : chunk.plan.expert_offsets;
}

void Moe::combine(const Context& ctx, const std::vector<Chunk>& chunks,
                  std::vector<TokenDispatcher::Move>& home, Tensor y) const {
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    dispatcher_.home_end(ctx, chunks[i].plan, std::move(home[i]), chunks[i].of(y));
  }
}

Tensor Moe::backward_router(const Context& ctx, Tensor d_weights, Saved& saved, const LossScales& scales) {
  RoutedBatch batch{.logits = saved.routing.logits,
                    .out = saved.routing.out,
                    .sequences = sequences(saved.x.rows()),
                    .dropped = {}};
  for (const Chunk& chunk : saved.chunks) {
    batch.rows += chunk.plan.rows;
    if (chunk.plan.dropped.defined()) batch.dropped.push_back(chunk.plan.dropped);
  }
  const Router::Gradients g{.weights = d_weights,
                            .scores = balance_.accumulate(ctx, batch, scales),
                            .z_scale = balance_.z_scale(scales)};
  return router_.backward(ctx, saved.x, g, saved.routing);
}

Segments Moe::sequences(std::int64_t rows) const {
  const std::int64_t micro_batch = rows * tp_->size();
  ENSURE(micro_batch % seq_len_ == 0, "{} rows of a micro-batch are no whole sequences of {}", micro_batch,
         seq_len_);
  return {.first_row = rows * tp_->rank(), .segment_len = seq_len_, .count = micro_batch / seq_len_};
}

}  // namespace jevons
