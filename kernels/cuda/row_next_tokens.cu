#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/next_tokens.h"

namespace jevons::cuda {

JEVONS_NEXT_TOKENS_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
