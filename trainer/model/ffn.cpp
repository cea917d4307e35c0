#include "trainer/model/ffn.h"

#include "kernels/activation.h"

namespace jevons {

DenseFfn::DenseFfn(ParamStore& store, const ModelConfig& config, const std::string& name,
                   std::int64_t hidden_size)
    : gather_(store.mesh().tp()),
      reduce_scatter_(store.mesh().tp()),
      gate_up_(store, {{.name = name + ".gate",
                        .shape = {hidden_size, config.hidden_size},
                        .tp_dim = 0,
                        .init_std = config.init_std},
                       {.name = name + ".up",
                        .shape = {hidden_size, config.hidden_size},
                        .tp_dim = 0,
                        .init_std = config.init_std}}),
      down_(store, {{.name = name + ".down",
                     .shape = {config.hidden_size, hidden_size},
                     .tp_dim = 1,
                     .init_std = config.output_init_std()}}),
      selective_(config.recompute == Recompute::kSelective) {}

Tensor DenseFfn::forward(const Context& ctx, Tensor x, Saved& saved) const {
  const Context dropped = scratch(ctx), kept = selective_ ? dropped : ctx;
  const Tensor x_full = gather_.forward(ctx, x, *kept.stash);
  saved.gate_up_out = gate_up_.forward(ctx, x_full, saved.gate_up);
  const Tensor h = activate(kept, saved.gate_up_out);
  const Tensor partial = down_.forward(dropped, h, saved.down);
  if (selective_) saved.gate_up = {}, saved.down = {};
  return reduce_scatter_.forward(ctx, partial, *ctx.work);
}

void DenseFfn::restore(const Context& ctx, Tensor x, Saved& saved) const {
  const Context inner = scratch(ctx);
  const Tensor x_full = gather_.forward(ctx, x, *ctx.work);
  if (!saved.gate_up_out.defined()) saved.gate_up_out = gate_up_.forward(inner, x_full, saved.gate_up);
  saved.gate_up.x = x_full;
  saved.down.x = activate(inner, saved.gate_up_out);
}

Tensor DenseFfn::backward(const Context& ctx, Tensor dy, Saved& saved) const {
  const Tensor dy_full = reduce_scatter_.backward(ctx, dy, *ctx.work);
  const Tensor dh = down_.backward(ctx, dy_full, saved.down);
  const Tensor d_gate_up = saved.gate_up_out;  // its values are not needed afterwards
  swiglu_backward(ctx, dh, saved.gate_up_out, {}, d_gate_up, {});
  const Tensor dx_partial = gate_up_.backward(ctx, d_gate_up, saved.gate_up);
  return gather_.backward(ctx, dx_partial, *ctx.work);
}

Tensor DenseFfn::activate(const Context& ctx, Tensor gate_up) const {
  const Tensor h = ctx.stash->alloc({gate_up.rows(), gate_up.cols() / 2}, gate_up.dtype);
  swiglu_forward(ctx, gate_up, {}, h);
  return h;
}

}  // namespace jevons
