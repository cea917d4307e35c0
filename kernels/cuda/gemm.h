// Matrix products on the GPU, by cuBLASLt: f32 (no TF32), bf16 with sums in fp32, f64. Work of
// ctx.stream; scratch memory comes from ctx.work. No CUDA types here: kernels/no_cuda has the same functions
// for builds without it. The library picks an algorithm by the size of the whole call, so a row's bits may
// depend on the number of rows.
#pragma once

#include <span>

#include "kernels/core/context.h"
#include "kernels/product.h"

namespace jevons::cuda {

// Scratch of ctx.work that a product takes at most: the size that cuBLAS itself takes on Hopper. Products
// side by side take it on each of their streams.
inline constexpr std::int64_t kMostGemmScratch = std::int64_t{32} << 20, kGemmLanes = 4;

// Operands of one dtype without scales; others are refused.
void run_product(const Context& ctx, const Product& product);

// The same product of `count` matrices; those of an operand lie equally far apart, in elements.
struct ProductBatch {
  Product first;
  std::int64_t count = 1, a_step = 0, b_step = 0, c_step = 0;
};
// One call of the library. No two matrices C share an element.
void run_product_batch(const Context& ctx, const ProductBatch& batch);

// Products that do not depend on each other: a call of the library for each that is not empty, side by side
// on a few streams. They share one algorithm for all counts of rows up to the same power of two.
void run_products(const Context& ctx, std::span<const Product> products);

}  // namespace jevons::cuda
