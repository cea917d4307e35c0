#include "trainer/model/mtp_depth.h"

#include <fmt/core.h>

#include "kernels/norm.h"

namespace jevons {
namespace {

std::string name_of_part(std::int64_t layer, const char* part) {
  return fmt::format("layers.{}.mtp.{}", layer, part);
}

ParamId add_norm(ParamStore& store, std::string name, std::int64_t width) {
  return store.add({.name = std::move(name),
                    .shape = {width},
                    .init = InitKind::kOnes,
                    .role = ParamRole::kVector,
                    .keep_f32 = true});
}

// Columns [first, first + width) of `rows`, which a norm takes for one head.
HeadView columns(const Tensor& rows, std::int64_t first, std::int64_t width) {
  return {rows, first, 1, width};
}

}  // namespace

MtpDepth::MtpDepth(ParamStore& store, const ModelConfig& config, std::int64_t layer, const RopeTable& rope)
    : store_(&store),
      layer_(layer),
      width_(config.hidden_size),
      enorm_(add_norm(store, name_of_part(layer, "enorm"), width_)),
      hnorm_(add_norm(store, name_of_part(layer, "hnorm"), width_)),
      proj_(store, {{.name = name_of_part(layer, "eh_proj"),
                     .shape = {width_, 2 * width_},
                     .init_std = config.init_std}}),
      block_(store, config, layer, rope),
      norm_(store, name_of_part(layer, "norm"), width_, config.norm_eps),
      eps_(static_cast<float>(config.norm_eps)),
      recompute_(config.recompute) {}

void MtpDepth::join(const Context& ctx, Saved& saved) const {
  const std::int64_t rows = saved.e.rows();
  const DType statistics = accumulator_of(saved.e.dtype);
  saved.proj.x = ctx.stash->alloc({rows, 2 * width_}, saved.e.dtype);
  saved.e_rstd = ctx.stash->alloc({rows, 1}, statistics);
  saved.h_rstd = ctx.stash->alloc({rows, 1}, statistics);
  head_rmsnorm_forward(ctx, columns(saved.e, 0, width_), store_->weight(enorm_), eps_,
                       columns(saved.proj.x, 0, width_), saved.e_rstd);
  head_rmsnorm_forward(ctx, columns(saved.h, 0, width_), store_->weight(hnorm_), eps_,
                       columns(saved.proj.x, width_, width_), saved.h_rstd);
}

Tensor MtpDepth::forward(const Context& ctx, Tensor e, Tensor h, const Sequences& sequences,
                         Saved& saved) const {
  saved.e = e, saved.h = h;
  const bool keeps = outlives_forward(SavedKind::kCheap, recompute_);
  Tensor z;
  {
    const ArenaScope scope(*ctx.work);
    join(keeps ? ctx : scratch(ctx), saved);
    z = proj_.forward(ctx, saved.proj.x, saved.proj);
  }
  if (!keeps) saved.proj.x = saved.e_rstd = saved.h_rstd = {};
  return norm_.forward(ctx, block_.forward(ctx, z, sequences, saved.block), saved.norm);
}

Tensor MtpDepth::infer(const Context& ctx, Tensor e, Tensor h, const Sequences& sequences) const {
  Saved dropped{.e = e, .h = h, .e_rstd = {}, .h_rstd = {}, .proj = {}, .block = {}, .norm = {}};
  Tensor z;
  {
    const ArenaScope scope(*ctx.work);
    join(scratch(ctx), dropped);
    z = proj_.forward(ctx, dropped.proj.x, dropped.proj);
  }
  block_.infer(ctx, z, sequences);
  return norm_.forward(ctx, z, dropped.norm);
}

void MtpDepth::part(const Context& ctx, Tensor dz, Saved& saved, const Gradients& out) const {
  if (!saved.proj.x.defined()) join(ctx, saved);
  const Tensor joined = proj_.backward_input(ctx, dz, saved.proj);
  head_rmsnorm_backward(ctx, columns(joined, 0, width_),
                        {columns(saved.e, 0, width_), store_->weight(enorm_), saved.e_rstd},
                        columns(out.e, 0, width_), store_->grad(enorm_));
  head_rmsnorm_backward(ctx, columns(joined, width_, width_),
                        {columns(saved.h, 0, width_), store_->weight(hnorm_), saved.h_rstd},
                        columns(out.h, 0, width_), store_->grad(hnorm_));
}

void MtpDepth::backward(const Context& ctx, Tensor dn, Saved& saved, const LossScales& scales,
                        const Gradients& out) {
  const ArenaScope scope(*ctx.work);
  const Tensor dy = ctx.work->alloc(dn.shape, dn.dtype);
  norm_.backward_add(ctx, dn, {}, dy, saved.norm);
  block_.backward(ctx, dy, saved.block, scales);
  const Context inner = scratch(ctx);
  part(inner, dy, saved, out);
  proj_.backward_weight(inner, saved.proj);
}

void MtpDepth::backward_input(const Context& ctx, Tensor dn, Saved& saved, const LossScales& scales,
                              const Gradients& out) {
  const Tensor dy = ctx.stash->alloc(dn.shape, dn.dtype);
  const ArenaScope scope(*ctx.work);
  norm_.backward_add(ctx, dn, {}, dy, saved.norm);
  part(ctx, block_.backward_input(ctx, dy, saved.block, scales), saved, out);
}

void MtpDepth::backward_weight(const Context& ctx, Saved& saved) const {
  const ArenaScope scope(*ctx.work);
  block_.backward_weight(ctx, saved.block);
  proj_.backward_weight(ctx, saved.proj);
}

}  // namespace jevons
