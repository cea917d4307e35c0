#include "trainer/step/qk_clip.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "kernels/host_view.h"
#include "parallel/host_exchange.h"

namespace jevons {

QkClip::QkClip(std::vector<Block*> blocks, const ParamStore& store, double limit)
    : blocks_(std::move(blocks)), limit_(limit) {
  std::erase_if(blocks_, [](const Block* block) { return block->watched_heads() == 0; });
  std::int64_t heads = 0;
  for (const Block* block : blocks_) heads += block->watched_heads();
  const DType dtype = accumulator_of(store.compute());
  memory_ = Buffer(store.device(), static_cast<std::size_t>(heads) * size_of(dtype));
  on_device_ = memory_.view(0, {heads}, dtype);
  largest_.resize(static_cast<std::size_t>(heads));
  std::int64_t at = 0;
  for (Block* block : blocks_) {
    const std::int64_t end = at + block->watched_heads();
    block->watch_logits(on_device_.slice(at, end));
    at = end;
  }
}

void QkClip::begin_step(const Context& ctx) {
  fill_zero(ctx, on_device_);
}

double QkClip::largest(const Context& ctx, Mesh& mesh) {
  if (ctx.device != Device::kMeta) {
    const Tensor values = host_view(ctx, on_device_);
    if (values.dtype == DType::kF64) std::ranges::copy(values.span<double>(), largest_.begin());
    if (values.dtype == DType::kF32) std::ranges::copy(values.span<float>(), largest_.begin());
  }
  all_reduce(mesh.replicas(), std::span(largest_), ReduceOp::kMax);
  const double mine = largest_.empty() ? 0 : std::ranges::max(largest_);
  return all_reduce(mesh.world(), mine, ReduceOp::kMax);
}

void QkClip::apply(const Context& ctx, Optimizer& optimizer) const {
  auto from = largest_.begin();
  for (const Block* block : blocks_) {
    std::vector<double> factors(from, from + block->watched_heads());
    from += block->watched_heads();
    for (double& factor : factors) factor = factor > limit_ ? limit_ / factor : 1;
    if (std::ranges::all_of(factors, [](double factor) { return factor == 1; })) continue;
    for (const RowFactors& rows : block->logit_rows(factors))
      optimizer.scale_rows(ctx, rows.weight, rows.rows);
  }
}

}  // namespace jevons
