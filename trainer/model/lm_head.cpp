#include "trainer/model/lm_head.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"

namespace jevons {

LmHead::LmHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied)
    : store_(&store),
      norm_(store, "final_norm", config.hidden_size, config.norm_eps),
      gather_(store.mesh().tp()),
      id_(tied ? *tied
               : store.add({.name = "lm_head",
                            .shape = {config.vocab_size, config.hidden_size},
                            .tp_dim = 0,
                            .init_std = config.init_std,
                            .role = ParamRole::kHead})),
      max_logit_bytes_(config.max_logit_bytes) {}

std::int64_t LmHead::chunk_rows(Tensor x) const {
  const std::int64_t row_bytes = store_->weight(id_).shape[0] * static_cast<std::int64_t>(size_of(x.dtype));
  return std::clamp<std::int64_t>(max_logit_bytes_ / row_bytes, 1, std::max<std::int64_t>(x.rows(), 1));
}

void LmHead::forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  Communicator& tp = store_->mesh().tp();
  Arena& norm_arena = gather_.returns_input() ? *ctx.stash : *ctx.work;
  saved.x = gather_.forward(ctx, norm_.forward(ctx, x, norm_arena, saved.norm), *ctx.stash);
  saved.targets = targets;

  const DType stats_dtype = accumulator_of(x.dtype);
  const std::int64_t rows = saved.x.rows(), chunk = chunk_rows(saved.x);
  saved.lse = ctx.stash->alloc({rows}, stats_dtype);
  const Tensor w = store_->weight(id_), stats = ctx.work->alloc({rows, 3}, stats_dtype);
  Arena& logits_arena = chunk == rows ? *ctx.stash : *ctx.work;
  const Tensor logits = logits_arena.alloc({chunk, w.shape[0]}, x.dtype);
  for (std::int64_t begin = 0; begin < rows; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, rows);
    const Tensor part = logits.slice(0, end - begin);
    linear_forward(ctx, saved.x.slice(begin, end), w, part);
    cross_entropy_stats(ctx, part, targets.slice(begin, end), vocab_begin(), stats.slice(begin, end));
  }
  saved.logits = chunk == rows ? logits : Tensor{};

  const Tensor gathered = ctx.work->alloc({tp.size(), rows, 3}, stats_dtype);
  tp.all_gather(stats, gathered).wait();
  const Tensor loss = ctx.work->alloc({rows}, stats_dtype);
  cross_entropy_combine(ctx, gathered, targets, loss, saved.lse);
  const std::int64_t begin = tp.rank() * x.rows();
  add_column_sums(ctx, 1, loss.slice(begin, begin + x.rows()).reshape({x.rows(), 1}), loss_sum);
}

Tensor LmHead::backward(const Context& ctx, double scale, Saved& saved) const {
  const Tensor dx = ctx.work->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  backward_input(scratch(ctx), scale, dx, saved);
  backward_weight(ctx, saved);
  return dx;
}

Tensor LmHead::backward_input(const Context& ctx, double scale, Saved& saved) const {
  const Tensor dx = ctx.stash->alloc(saved.norm.x.shape, saved.norm.x.dtype);
  const ArenaScope scope(*ctx.work);
  backward_input(ctx, scale, dx, saved);
  return dx;
}

void LmHead::backward_input(const Context& ctx, double scale, Tensor dx, Saved& saved) const {
  const bool kept = saved.logits.defined();
  const std::int64_t rows = saved.x.rows(), chunk = chunk_rows(saved.x);
  const Tensor w = store_->weight(id_);
  const Tensor dx_partial = ctx.work->alloc(saved.x.shape, saved.x.dtype);
  const Tensor logits = kept ? saved.logits : ctx.work->alloc({chunk, w.shape[0]}, saved.x.dtype);
  for (std::int64_t begin = 0; begin < rows; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, rows);
    const Tensor part = logits.slice(0, end - begin), x = saved.x.slice(begin, end);
    if (!kept) linear_forward(ctx, x, w, part);
    cross_entropy_backward(ctx, part, saved.targets.slice(begin, end), vocab_begin(),
                           saved.lse.slice(begin, end), scale, part);
    if (!kept) linear_backward_weight(ctx, part, x, store_->grad(id_));
    linear_backward_input(ctx, part, w, dx_partial.slice(begin, end));
  }
  norm_.backward_add(ctx, gather_.backward(ctx, dx_partial, *ctx.work), {}, dx, saved.norm);
}

void LmHead::backward_weight(const Context& ctx, const Saved& saved) const {
  if (saved.logits.defined()) linear_backward_weight(ctx, saved.logits, saved.x, store_->grad(id_));
}

Tensor LmHead::logits(const Context& ctx, Tensor x) const {
  const Tensor w = store_->weight(id_);
  ENSURE(store_->mesh().tp().size() == 1, "logits of the whole vocabulary need tp 1");
  const Tensor y = ctx.stash->alloc({x.rows(), w.shape[0]}, x.dtype);
  Norm::Saved dropped;
  linear_forward(ctx, norm_.forward(ctx, x, *ctx.stash, dropped), w, y);
  return y;
}

}  // namespace jevons
