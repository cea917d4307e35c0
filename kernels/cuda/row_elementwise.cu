#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/elementwise.h"

namespace jevons::cuda {

JEVONS_ELEMENTWISE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
