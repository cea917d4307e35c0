// Heads from one matrix to another: one that all heads share, such as the rotated part of latent attention's
// keys, goes to each of them and its gradient comes back as a sum.
#pragma once

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

// Head h of y = head h of x, or its only one.
void copy_heads(const Context&, HeadView x, HeadView y);
// The only head of y = the sum over the heads of x, in their order, rounded once.
void sum_heads(const Context&, HeadView x, HeadView y);

}  // namespace jevons
