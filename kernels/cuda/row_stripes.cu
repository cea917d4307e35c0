#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/stripes.h"

namespace jevons::cuda {

JEVONS_STRIPE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
