#include "kernels/cuda/row_launch.cuh"
#include "kernels/moe/balance_row.h"

namespace jevons::cuda {

JEVONS_BALANCE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
