#include "trainer/model/vocab_head.h"

#include <algorithm>

#include "kernels/gemm.h"
#include "kernels/next_tokens.h"

namespace jevons {

VocabHead::VocabHead(ParamStore& store, const ModelConfig& config, std::optional<ParamId> tied)
    : store_(&store),
      gather_(store.mesh().tp()),
      id_(tied ? *tied
               : store.add({.name = "lm_head",
                            .shape = {config.vocab_size, config.hidden_size},
                            .tp_dim = 0,
                            .init_std = config.init_std,
                            .role = ParamRole::kHead})),
      loss_(store.mesh().tp(), store.params()[id_].tp_offset),
      max_logit_bytes_(config.max_logit_bytes) {}

std::int64_t VocabHead::chunk_rows(Tensor x) const {
  const std::int64_t row_bytes = store_->weight(id_).shape[0] * static_cast<std::int64_t>(size_of(x.dtype));
  return std::clamp<std::int64_t>(max_logit_bytes_ / row_bytes, 1, std::max<std::int64_t>(x.rows(), 1));
}

void VocabHead::forward(const Context& ctx, Tensor x, Tensor targets, Tensor loss_sum, Saved& saved,
                        Tensor choices) const {
  saved.x = gather_.forward(ctx, x, *ctx.stash);
  const std::int64_t rows = saved.x.rows(), chunk = chunk_rows(saved.x);
  const Tensor w = store_->weight(id_), statistics = loss_.begin(ctx, targets, x.dtype, saved.loss);
  Arena& logits_arena = chunk == rows ? *ctx.stash : *ctx.work;
  const Tensor logits = logits_arena.alloc({chunk, w.shape[0]}, x.dtype);
  const Tensor best = choices.defined() ? ctx.work->alloc({rows, 2}, accumulator_of(x.dtype)) : Tensor{};
  for (std::int64_t begin = 0; begin < rows; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, rows);
    const Tensor part = logits.slice(0, end - begin);
    linear_forward(ctx, saved.x.slice(begin, end), w, part);
    loss_.rows(ctx, part, begin, statistics, saved.loss);
    if (best.defined()) best_tokens(ctx, part, store_->params()[id_].tp_offset, best.slice(begin, end));
  }
  saved.logits = chunk == rows ? logits : Tensor{};
  loss_.finish(ctx, statistics, loss_sum, saved.loss);
  if (best.defined()) join_choices(ctx, best, choices);
}

void VocabHead::join_choices(const Context& ctx, Tensor best, Tensor choices) const {
  Communicator& tp = store_->mesh().tp();
  const Tensor gathered = ctx.work->alloc({tp.size(), best.rows(), 2}, best.dtype);
  tp.all_gather(best, gathered).wait();
  best_of_parts(ctx, gathered, choices);
}

Tensor VocabHead::backward_input(const Context& ctx, double scale, Saved& saved) const {
  const bool kept = saved.logits.defined();
  const std::int64_t rows = saved.x.rows(), chunk = chunk_rows(saved.x);
  const Tensor w = store_->weight(id_);
  const Tensor dx_partial = ctx.work->alloc(saved.x.shape, saved.x.dtype);
  const Tensor logits = kept ? saved.logits : ctx.work->alloc({chunk, w.shape[0]}, saved.x.dtype);
  for (std::int64_t begin = 0; begin < rows; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, rows);
    const Tensor part = logits.slice(0, end - begin), x = saved.x.slice(begin, end);
    if (!kept) linear_forward(ctx, x, w, part);
    loss_.backward(ctx, part, begin, scale, saved.loss);
    if (!kept) linear_backward_weight(ctx, part, x, store_->grad(id_));
    linear_backward_input(ctx, part, w, dx_partial.slice(begin, end));
  }
  return gather_.backward(ctx, dx_partial, *ctx.work);
}

void VocabHead::backward_weight(const Context& ctx, const Saved& saved) const {
  if (saved.logits.defined()) linear_backward_weight(ctx, saved.logits, saved.x, store_->grad(id_));
}

Tensor VocabHead::logits(const Context& ctx, Tensor x) const {
  const Tensor rows = gather_.forward(ctx, x, *ctx.stash), w = store_->weight(id_);
  const Tensor y = ctx.stash->alloc({rows.rows(), w.shape[0]}, x.dtype);
  linear_forward(ctx, rows, w, y);
  return y;
}

}  // namespace jevons
