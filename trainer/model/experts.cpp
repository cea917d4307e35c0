#include "trainer/model/experts.h"

#include <fmt/core.h>

#include "kernels/activation.h"
#include "kernels/core/profile_range.h"
#include "kernels/gemm.h"

namespace jevons {

Experts::Experts(ParamStore& store, const ModelConfig& config, const Names& names, std::int64_t first,
                 std::int64_t count)
    : store_(&store),
      count_(count),
      hidden_size_(config.moe.expert_hidden_size),
      swiglu_limit_(config.swiglu_limit) {
  const Shape in{hidden_size_, config.hidden_size}, out{config.hidden_size, hidden_size_};
  const double share =
      static_cast<double>(config.moe.router.top_k) / static_cast<double>(config.moe.router.num_experts);
  const auto add = [&](std::int64_t expert, const char* part, const Shape& shape, double init_std) {
    return store.add({.name = fmt::format("{}.{}.{}", names.experts, expert, part),
                      .shape = shape,
                      .expert = true,
                      .init_std = init_std,
                      .share_of_tokens = share,
                      .dense_counterpart = fmt::format("{}.{}", names.dense_ffn, part)});
  };
  for (std::int64_t g = first; g < first + count; ++g) {
    gate_up_ids_.push_back(add(g, "gate", in, config.init_std));
    gate_up_ids_.push_back(add(g, "up", in, config.init_std));
  }
  for (std::int64_t g = first; g < first + count; ++g) {
    down_ids_.push_back(add(g, "down", out, config.output_init_std()));
  }
}

void Experts::expand(const Context& ctx, Offsets offsets, Tensor rows, Saved& saved) const {
  const ProfileRange range("experts, up");
  saved.rows = rows;
  saved.gate_up = ctx.stash->alloc({rows.rows(), 2 * hidden_size_}, rows.dtype);
  grouped_linear_forward(ctx, offsets, rows, stacked(store_->fused_weight(gate_up_ids_)), saved.gate_up);
}

Tensor Experts::contract(const Context& ctx, Offsets offsets, Tensor row_scale, const Saved& saved) const {
  const ProfileRange range("experts, down");
  const Tensor y = ctx.work->alloc(saved.rows.shape, saved.rows.dtype);
  const ArenaScope scope(*ctx.work);
  const Tensor h = activate(ctx, *ctx.work, saved.gate_up, row_scale);
  grouped_linear_forward(ctx, offsets, h, stacked(store_->fused_weight(down_ids_)), y);
  return y;
}

Experts::Gradients Experts::backward_input(const Context& ctx, Offsets offsets, Tensor dy, Tensor row_scale,
                                           Saved& saved) const {
  const ProfileRange range("experts, input gradient");
  const Gradients g{.rows = ctx.work->alloc(saved.rows.shape, saved.rows.dtype),
                    .row_scale = ctx.work->alloc(row_scale.shape, row_scale.dtype)};
  saved.dy = dy;
  saved.h = activate(ctx, *ctx.stash, saved.gate_up, row_scale);
  const ArenaScope scope(*ctx.work);
  const Tensor dh = ctx.work->alloc(saved.h.shape, saved.h.dtype);
  grouped_linear_backward_input(ctx, offsets, dy, stacked(store_->fused_weight(down_ids_)), dh);
  swiglu_backward(ctx, dh, {saved.gate_up, row_scale, swiglu_limit_}, saved.gate_up, g.row_scale);
  grouped_linear_backward_input(ctx, offsets, saved.gate_up, stacked(store_->fused_weight(gate_up_ids_)),
                                g.rows);
  return g;
}

void Experts::backward_weight(const Context& ctx, Offsets offsets, const Saved& saved) const {
  const ProfileRange range("experts, weight gradient");
  if (sources() > 1) return backward_weight_apart(ctx, offsets, saved);
  grouped_linear_backward_weight(ctx, offsets, saved.dy, saved.h, stacked(store_->fused_grad(down_ids_)));
  grouped_linear_backward_weight(ctx, offsets, saved.gate_up, saved.rows,
                                 stacked(store_->fused_grad(gate_up_ids_)));
}

// One product per expert and source: a product gives the same bits alone and in a group.
void Experts::backward_weight_apart(const Context& ctx, Offsets offsets, const Saved& saved) const {
  const auto matrix = [](Tensor stack, std::int64_t i) {
    return stack.slice(i, i + 1).reshape({stack.shape[1], stack.shape[2]});
  };
  for (std::int64_t source = 0; source < sources(); ++source) {
    const Tensor down = stacked(store_->fused_grad(down_ids_, source));
    const Tensor gate_up = stacked(store_->fused_grad(gate_up_ids_, source));
    for (std::int64_t expert = 0; expert < count_; ++expert) {
      const auto at = static_cast<std::size_t>(expert * sources() + source);
      const std::int64_t begin = offsets[at], end = offsets[at + 1];
      if (begin == end) continue;
      linear_backward_weight(ctx, saved.dy.slice(begin, end), saved.h.slice(begin, end),
                             matrix(down, expert));
      linear_backward_weight(ctx, saved.gate_up.slice(begin, end), saved.rows.slice(begin, end),
                             matrix(gate_up, expert));
    }
  }
}

Tensor Experts::activate(const Context& ctx, Arena& out, Tensor gate_up, Tensor row_scale) const {
  const Tensor h = out.alloc({gate_up.rows(), hidden_size_}, gate_up.dtype);
  swiglu_forward(ctx, {gate_up, row_scale, swiglu_limit_}, h);
  return h;
}

}  // namespace jevons
