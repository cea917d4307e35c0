#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/head_copy.h"

namespace jevons::cuda {

JEVONS_HEAD_COPY_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
