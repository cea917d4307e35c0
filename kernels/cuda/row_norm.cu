#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/norm.h"

namespace jevons::cuda {

JEVONS_NORM_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
