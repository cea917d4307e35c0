#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/permute.h"

namespace jevons::cuda {

JEVONS_PERMUTE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
