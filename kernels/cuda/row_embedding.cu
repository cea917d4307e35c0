#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/embedding.h"

namespace jevons::cuda {

JEVONS_EMBEDDING_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
