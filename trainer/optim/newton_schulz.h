// Orthogonalisation by Newton-Schulz iterations, as Muon has it (Jordan et al., 2024,
// kellerjordan.github.io/posts/muon; Moonlight, arXiv:2502.16982): all singular values of a matrix are
// brought near 1 by products alone.
#pragma once

#include "kernels/core/context.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

// u (n, m), f32 or f64, becomes scale * X: X = u / (|u|_F + 1e-7), then in each iteration
//   X = a X + (b S + c S S) X,  S = X X^T,  for n > m from the other side: X = a X + X (b S + c S S),  S =
//   X^T X.
// kFive: five with (3.4445, -4.7750, 2.0315), which bring singular values above 1.1e-3 |u|_F to 0.50 .. 1.20;
// kEightAndTwo: eight of them and two with (2, -1.5, 0.5), values above 7e-6 |u|_F to 0.50 .. 1.002. Products
// are of ctx.compute, summed and combined in u's dtype. 4 k^2 l + 2 k^3 FLOPs an iteration, k and l the
// smaller and the larger of n and m; temporaries in ctx.work.
void orthogonalise(const Context& ctx, NewtonSchulz iterations, double scale, Tensor u);

}  // namespace jevons
