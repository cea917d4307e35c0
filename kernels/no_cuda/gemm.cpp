// Matrix products of a program without a GPU back end. No tensor on kCuda can exist there.
#include "kernels/cuda/gemm.h"

#include "kernels/core/error.h"

namespace jevons::cuda {

void run_product(const Context&, const Product&) {
  fail(ExitCode::kFailure, "matrix products on CUDA are not part of this build");
}
void run_products(const Context&, std::span<const Product>) {
  fail(ExitCode::kFailure, "matrix products on CUDA are not part of this build");
}

}  // namespace jevons::cuda
