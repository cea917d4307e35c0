// Many products of bf16 in one call of cuBLAS.
#pragma once

#include <span>

#include "kernels/core/context.h"
#include "kernels/product.h"

namespace jevons::cuda {

// What the library has a form for: C in bf16, assigned; addresses and rows multiples of 16 bytes.
bool has_grouped_form(DType dtype, const Product& product);

// Every product has that form and is not empty. Sums in fp32. Work of ctx.stream; the table of addresses lies
// in ctx.work.
void run_grouped(const Context& ctx, std::span<const Product> products);

}  // namespace jevons::cuda
