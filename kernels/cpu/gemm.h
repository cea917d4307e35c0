// Matrix products on the CPU, threaded once at the top: over blocks of one product, or over the products of a
// group.
#pragma once

#include <span>

#include "kernels/cpu/gemm_engine.h"

namespace jevons::cpu {

// One product on `threads` threads. B is packed once, by all threads, and shared. Operands that the engine
// cannot read, of another dtype or with a scale, are widened to its dtype first; the engine's dtype is
// common_dtype of the product.
void run_product(int threads, const GemmEngine& engine, const Product& product);

// Independent products (no two may write the same C), biggest first; large ones are split by rows of C.
void run_products(int threads, const GemmEngine& engine, std::span<const Product> products);

}  // namespace jevons::cpu
