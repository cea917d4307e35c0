#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/cross_entropy.h"

namespace jevons::cuda {

JEVONS_CROSS_ENTROPY_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
