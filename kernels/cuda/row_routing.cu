#include "kernels/cuda/row_launch.cuh"
#include "kernels/moe/routing_row.h"

namespace jevons::cuda {

JEVONS_ROUTING_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
