#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/attention_square.h"

namespace jevons::cuda {

JEVONS_ATTENTION_SQUARE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
