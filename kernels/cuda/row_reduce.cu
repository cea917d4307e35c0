#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/reduce.h"

namespace jevons::cuda {

JEVONS_REDUCE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
