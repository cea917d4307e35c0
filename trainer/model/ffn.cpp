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
      swiglu_limit_(config.swiglu_limit) {}

Tensor DenseFfn::forward(const Keep& keep, Tensor x, const Sequences&, Saved& saved) const {
  const Tensor x_full = gather_.forward(keep.cheap, x, *keep.cheap.stash);
  saved.gate_up_out = gate_up_.forward(keep.products, x_full, saved.gate_up);
  const Tensor h = activate(keep.cheap, saved.gate_up_out);
  const Context dropped = scratch(keep.cheap);
  return reduce_scatter_.forward(dropped, down_.forward(dropped, h, saved.down), *dropped.work);
}

// Without the product with down, whose result backward does not need.
void DenseFfn::restore(const Context& ctx, Tensor x, Saved& saved) const {
  saved.gate_up.x = gather_.forward(ctx, x, *ctx.stash);
  if (!saved.gate_up_out.defined()) {
    saved.gate_up_out = gate_up_.forward(ctx, saved.gate_up.x, saved.gate_up);
  }
  saved.down.x = activate(ctx, saved.gate_up_out);
}

Tensor DenseFfn::backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales&) const {
  const Tensor dy_full = reduce_scatter_.backward(ctx, dy, *ctx.stash);
  const Tensor dh = down_.backward_input(ctx, dy_full, saved.down);
  const Tensor d_gate_up = saved.gate_up_out;  // its values are not needed afterwards
  swiglu_backward(ctx, dh, {.gate_up = saved.gate_up_out, .limit = swiglu_limit_}, d_gate_up, {});
  return gather_.backward(ctx, gate_up_.backward_input(ctx, d_gate_up, saved.gate_up), *ctx.work);
}

void DenseFfn::backward_weight(const Context& ctx, const Saved& saved) const {
  down_.backward_weight(ctx, saved.down);
  gate_up_.backward_weight(ctx, saved.gate_up);
}

Tensor DenseFfn::activate(const Context& ctx, Tensor gate_up) const {
  const Tensor h = ctx.stash->alloc({gate_up.rows(), gate_up.cols() / 2}, gate_up.dtype);
  swiglu_forward(ctx, {.gate_up = gate_up, .limit = swiglu_limit_}, h);
  return h;
}

}  // namespace jevons
