#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/ordered_sum.h"

namespace jevons::cuda {

JEVONS_ORDERED_SUM_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
