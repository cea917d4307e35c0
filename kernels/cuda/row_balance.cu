#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/balance.h"
#include "kernels/row/reduce.h"

namespace jevons::cuda {

JEVONS_BALANCE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
