#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/decode_attention.h"

namespace jevons::cuda {

JEVONS_DECODE_ATTENTION_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
