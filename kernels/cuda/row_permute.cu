#include "kernels/cuda/row_launch.cuh"
#include "kernels/moe/permute_row.h"

namespace jevons::cuda {

JEVONS_PERMUTE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
