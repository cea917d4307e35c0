#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/optimizer.h"

namespace jevons {
namespace {

// Checks what every update of weights uses: master, gradient, working weight.
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

// A moment may be bf16 where `wide` is f32; random rounding takes one that is.
void check_moment(OpCall& call, const char* name, const Tensor& moment, const OptimizerRange& r) {
  const bool narrow = r.rounding || (moment.dtype == DType::kBF16 && r.grad.dtype == DType::kF32);
  call.updates(name, moment, {r.grad.numel()}, narrow ? DType::kBF16 : r.grad.dtype);
}

// Calls f(TypeTag<M>, rounding) with the type that moments are kept in beside an accumulator of A.
template <class A, class F>
void with_moments(const OptimizerRange& r, F f) {
  if constexpr (std::is_same_v<A, float>) {
    if (r.rounding) {
      const RandomRounding& by = *r.rounding;
      return f(TypeTag<bf16>{}, ByCounter{by.random, by.begin, by.first, by.cols, by.global_cols});
    }
    if (r.moment1.dtype == DType::kBF16) return f(TypeTag<bf16>{}, ToNearest{});
  }
  f(TypeTag<A>{}, ToNearest{});
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
  check_moment(call, "moment1", r.moment1, r);
  check_moment(call, "moment2", r.moment2, r);
  ENSURE(r.moment1.dtype == r.moment2.dtype, "adamw_step: moments are {} and {}", r.moment1.to_string(),
         r.moment2.to_string());
  call.record(ctx, WorkKind::kOptimizer);
  with_float_type(r.weight.dtype, [&]<class W>(TypeTag<W>) {
    using A = accumulator_t<W>;
    with_moments<A>(r, [&]<class M, class Rounding>(TypeTag<M>, const Rounding& rounding) {
      using Kernel = AdamWKernel<A, W, M, Rounding>;
      launch_flat(ctx, r.master.device, n,
                  Kernel{r.master.ptr<A>(), r.moment1.ptr<M>(), r.moment2.ptr<M>(), r.grad.ptr<A>(),
                         r.weight.ptr<W>(), n, constants_of<Kernel>(adamw), rounding});
    });
  });
}

void sgd_step(const Context& ctx, const Sgd& sgd, const OptimizerRange& r) {
  const std::int64_t n = r.master.numel();
  check_range("sgd_step", r).record(ctx, WorkKind::kOptimizer);
  with_float_type(r.weight.dtype, [&]<class W>(TypeTag<W>) {
    using A = accumulator_t<W>;
    launch_flat(ctx, r.master.device, n,
                SgdKernel<A, W>{r.master.ptr<A>(), r.grad.ptr<A>(), r.weight.ptr<W>(), n,
                                static_cast<A>(1 - sgd.lr * sgd.weight_decay),
                                static_cast<A>(sgd.lr * sgd.grad_scale)});
  });
}

void momentum_step(const Context& ctx, const Momentum& rule, const OptimizerRange& r) {
  const std::int64_t n = r.grad.numel();
  OpCall call("momentum_step", r.grad.device);
  call.updates("grad", r.grad, {n}, r.grad.dtype);
  check_moment(call, "moment1", r.moment1, r);
  call.record(ctx, WorkKind::kOptimizer);
  with_accumulator_type(r.grad.dtype, [&]<class A>(TypeTag<A>) {
    with_moments<A>(r, [&]<class M, class Rounding>(TypeTag<M>, const Rounding& rounding) {
      launch_flat(ctx, r.grad.device, n,
                  MomentumKernel<A, M, Rounding>{
                      r.moment1.ptr<M>(), r.grad.ptr<A>(), n, static_cast<A>(rule.grad_scale),
                      static_cast<A>(rule.momentum), static_cast<A>(rule.nesterov ? rule.momentum : 1),
                      static_cast<A>(rule.nesterov ? 1 : 0), rounding});
    });
  });
}

void scale_rows(const Context& ctx, Tensor factors, std::int64_t begin, std::int64_t cols, Tensor master,
                Tensor weight) {
  const std::int64_t n = master.numel();
  const DType wide = accumulator_of(weight.dtype);
  OpCall("scale_rows", master.device)
      .updates("master", master, {n}, wide)
      .uses("weight", weight, {n}, weight.dtype)
      .reads("factors", factors, {factors.numel()}, wide)
      .record(ctx, WorkKind::kOptimizer);
  ENSURE(begin >= 0 && begin + n <= factors.numel() * cols, "scale_rows: elements {} to {} of {} rows of {}",
         begin, begin + n, factors.numel(), cols);
  with_float_type(weight.dtype, [&]<class W>(TypeTag<W>) {
    using A = accumulator_t<W>;
    launch_flat(ctx, master.device, n,
                ScaleRowsKernel<A, W>{master.ptr<A>(), weight.ptr<W>(), factors.ptr<A>(), n, begin, cols});
  });
}

}  // namespace jevons
