#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/routing.h"
#include "kernels/row/routing_backward.h"
#include "kernels/row/routing_balance.h"

namespace jevons::cuda {

JEVONS_ROUTING_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
