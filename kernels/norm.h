// RMSNorm (Zhang and Sennrich, arXiv:1910.07467): y = x * rstd * w, rstd = (mean(x^2) + eps)^-1/2, statistics
// in fp32.
#pragma once

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

// x, y (R, D) compute dtype; w (D) and rstd (R) accumulator dtype.
void rmsnorm_forward(const Context&, Tensor x, Tensor w, float eps, Tensor y, Tensor rstd);
// What backward reads of forward.
struct RmsNormSaved {
  Tensor x, w, rstd;
};
// dx = ...; dw += sum over rows, in a fixed order. When dx_residual is defined (R, D), dx = dx_residual + ...
// (the gradient that came past the norm on the residual stream). dx may be dx_residual, dy or x. Scratch:
// work arena.
void rmsnorm_backward(const Context&, Tensor dy, const RmsNormSaved&, Tensor dx_residual, Tensor dx,
                      Tensor dw);
// h = x + r (R, D), y = rmsnorm(h): the residual add and the norm that follows it, in one pass. h may be x or
// r.
struct AddRmsNormOutput {
  Tensor h, y, rstd;
};
void add_rmsnorm_forward(const Context&, Tensor x, Tensor r, Tensor w, float eps, const AddRmsNormOutput&);

// The same over every head of every row (QK-norm): w (head_dim), rstd (T, heads). y may be x, dx may be dy or
// x.
void head_rmsnorm_forward(const Context&, HeadView x, Tensor w, float eps, HeadView y, Tensor rstd);
struct HeadRmsNormSaved {
  HeadView x;
  Tensor w, rstd;
};
void head_rmsnorm_backward(const Context&, HeadView dy, const HeadRmsNormSaved&, HeadView dx, Tensor dw);

}  // namespace jevons
