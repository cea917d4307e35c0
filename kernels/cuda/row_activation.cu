#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/swiglu.h"

namespace jevons::cuda {

JEVONS_ACTIVATION_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
