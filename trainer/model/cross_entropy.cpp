#include "trainer/model/cross_entropy.h"

#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace jevons {

Tensor CrossEntropy::begin(const Context& ctx, Tensor targets, DType logits, Saved& saved) const {
  const std::int64_t rows = targets.shape[0];
  saved = {.targets = targets, .lse = ctx.stash->alloc({rows}, accumulator_of(logits))};
  return ctx.work->alloc({rows, 3}, accumulator_of(logits));
}

void CrossEntropy::rows(const Context& ctx, Tensor logits, std::int64_t first_row, Tensor statistics,
                        const Saved& saved) const {
  const std::int64_t end = first_row + logits.rows();
  cross_entropy_stats(ctx, logits, {saved.targets.slice(first_row, end), vocab_begin_},
                      statistics.slice(first_row, end));
}

void CrossEntropy::finish(const Context& ctx, Tensor statistics, Tensor loss_sum, const Saved& saved) const {
  const std::int64_t rows = statistics.rows(), own = rows / tp_->size(), begin = tp_->rank() * own;
  const Tensor gathered = ctx.work->alloc({tp_->size(), rows, 3}, statistics.dtype);
  tp_->all_gather(statistics, gathered).wait();
  const Tensor loss = ctx.work->alloc({rows}, statistics.dtype);
  cross_entropy_combine(ctx, gathered, saved.targets, loss, saved.lse);
  add_column_sums(ctx, 1, loss.slice(begin, begin + own).reshape({own, 1}), loss_sum);
}

void CrossEntropy::backward(const Context& ctx, Tensor logits, std::int64_t first_row, double scale,
                            const Saved& saved) const {
  const std::int64_t end = first_row + logits.rows();
  cross_entropy_backward(ctx, logits, {saved.targets.slice(first_row, end), vocab_begin_},
                         saved.lse.slice(first_row, end), scale, logits);
}

}  // namespace jevons
