#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/optimizer.h"

namespace jevons {
namespace {

// Checks what every optimizer uses: master, gradient, working weight.
OpCall check_range(const char* op, const OptimizerRange& r) {
  const Shape range{r.master.numel()};
  const DType state = accumulator_of(r.weight.dtype);
  OpCall call(op, r.master.device);
  call.updates("master", r.master, range, state).updates("grad", r.grad, range, state);
  if (r.weight.data != r.master.data || r.weight.dtype != r.master.dtype) {
    call.writes("weight", r.weight, range, r.weight.dtype);
  } else {
    call.uses("weight", r.weight, range, state);
  }
  return call;
}

template <class Kernel>
typename Kernel::Step constants_of(const AdamW& a) {
  using A = decltype(Kernel::Step::rate);
  const auto step = static_cast<double>(a.step);
  return {.grad_scale = static_cast<A>(a.grad_scale),
          .keep1 = static_cast<A>(a.beta1),
          .take1 = static_cast<A>(1 - a.beta1),
          .keep2 = static_cast<A>(a.beta2),
          .take2 = static_cast<A>(1 - a.beta2),
          .unbias2 = static_cast<A>(1 / (1 - std::pow(a.beta2, step))),
          .eps = static_cast<A>(a.eps),
          .keep = static_cast<A>(1 - a.lr * a.weight_decay),
          .rate = static_cast<A>(a.lr / (1 - std::pow(a.beta1, step)))};
}

}  // namespace

void adamw_step(const Context& ctx, const AdamW& adamw, const OptimizerRange& r) {
  ENSURE(adamw.step >= 1, "adamw_step: step is {}, wanted 1 or more", adamw.step);
  const std::int64_t n = r.master.numel();
  OpCall call = check_range("adamw_step", r);
  call.updates("moment1", r.moment1, {n}, r.master.dtype).updates("moment2", r.moment2, {n}, r.master.dtype);
  call.record(ctx, WorkKind::kOptimizer);
  with_float_type(r.weight.dtype, [&]<class W>(TypeTag<W>) {
    using A = accumulator_t<W>;
    using Kernel = AdamWKernel<A, W>;
    launch_flat(ctx, r.master.device, n,
                Kernel{r.master.ptr<A>(), r.moment1.ptr<A>(), r.moment2.ptr<A>(), r.grad.ptr<A>(),
                       r.weight.ptr<W>(), n, constants_of<Kernel>(adamw)});
  });
}

void sgd_step(const Context& ctx, double lr, double grad_scale, const OptimizerRange& r) {
  const std::int64_t n = r.master.numel();
  check_range("sgd_step", r).record(ctx, WorkKind::kOptimizer);
  with_float_type(r.weight.dtype, [&]<class W>(TypeTag<W>) {
    using A = accumulator_t<W>;
    launch_flat(ctx, r.master.device, n,
                SgdKernel<A, W>{r.master.ptr<A>(), r.grad.ptr<A>(), r.weight.ptr<W>(), n,
                                static_cast<A>(lr * grad_scale)});
  });
}

}  // namespace jevons
