#include "kernels/cuda/row_launch.cuh"
#include "kernels/row/slot_index.h"
#include "kernels/row/slot_lists.h"
#include "kernels/row/slot_misfits.h"
#include "kernels/row/slot_rows.h"

namespace jevons::cuda {

JEVONS_SLOT_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
