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

// Between the order of tokens and that of heads, as a product with a matrix for each head takes it: row h * B
// + b of the one with one head is head h of row b of the other, which has B rows.
void heads_to_rows(const Context&, HeadView x, HeadView y);
void rows_to_heads(const Context&, HeadView x, HeadView y);

}  // namespace jevons
