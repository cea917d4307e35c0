#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/rope.h"

namespace jevons::cuda {

JEVONS_ROPE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
