#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/optimizer.h"

namespace jevons::cuda {

JEVONS_OPTIMIZER_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
