// Optimizer updates over flat ranges, in one pass: clip factor, moments, decay, master weight, working copy,
// and the gradient set to zero for the next step.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// AdamW (Loshchilov and Hutter, arXiv:1711.05101), decay times learning rate, bias-corrected moments.
struct AdamW {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  std::int64_t step = 1;  // counts from 1, for the bias correction
  double grad_scale = 1;  // multiplies every gradient (global-norm clipping)
};
// All (n), accumulator dtype, but weight (n) which has the compute dtype. weight may be master itself.
struct OptimizerRange {
  Tensor master, moment1, moment2, grad, weight;
};
void adamw_step(const Context&, const AdamW&, const OptimizerRange&);
// w -= lr * grad_scale * g, gradient and working weight as above; moments are not used and may be undefined.
void sgd_step(const Context&, double lr, double grad_scale, const OptimizerRange&);

}  // namespace jevons
