#include "kernels/cuda/row_launch.cuh"
#include "kernels/moe/margins_row.h"

namespace jevons::cuda {

JEVONS_MARGINS_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
