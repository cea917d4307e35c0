// Optimizer updates over flat ranges, in one pass: clip factor, moments, decay, master weight, working copy,
// and the gradient set to zero for the next step.
#pragma once

#include <optional>

#include "kernels/core/context.h"
#include "kernels/core/rng.h"

namespace jevons {

// Moments in bf16 are rounded up or down by random numbers, so that small changes add up in the mean. Those
// are a function of an element's place in the whole weight, of which a rank has the part that begins with
// element `first` and has `cols` of the `global_cols` columns; the range begins with the part's element
// `begin`.
struct RandomRounding {
  RandomStream random;
  std::int64_t begin = 0, first = 0, cols = 1, global_cols = 1;
};

// All (n). weight has the compute dtype and may be master itself; the others have the accumulator dtype, but
// moments may also be bf16 where that is f32. `rounding`: of bf16 moments; nothing: to nearest.
struct OptimizerRange {
  Tensor master, moment1, moment2, grad, weight;
  std::optional<RandomRounding> rounding = {};
};

// AdamW (Loshchilov and Hutter, arXiv:1711.05101), decay times learning rate, bias-corrected moments.
struct AdamW {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  std::int64_t step = 1;  // counts from 1, for the bias correction
  double grad_scale = 1;  // multiplies every gradient (global-norm clipping)
};
void adamw_step(const Context&, const AdamW&, const OptimizerRange&);

// w = (1 - lr * weight_decay) w - lr * grad_scale * g, gradient and working weight as above; moments are not
// used and may be undefined.
struct Sgd {
  double lr = 0, weight_decay = 0, grad_scale = 1;
};
void sgd_step(const Context&, const Sgd&, const OptimizerRange&);

// Heavy-ball momentum, without a factor on the gradient: m = momentum m + grad_scale g, in moment1. The
// gradient becomes m or, with Nesterov's look ahead, g + momentum m. No weight is read or written: master,
// weight and moment2 may be undefined.
struct Momentum {
  double momentum = 0.95, grad_scale = 1;
  bool nesterov = true;
};
void momentum_step(const Context&, const Momentum&, const OptimizerRange&);

// Every row of a weight times its factor, in master and weight, of which a range has a part that begins with
// element `begin`. factors (rows): accumulator dtype.
void scale_rows(const Context&, Tensor factors, std::int64_t begin, std::int64_t cols, Tensor master,
                Tensor weight);

}  // namespace jevons
