#include "kernels/cuda/row_launch.cuh"
#include "kernels/moe/slot_order_receive_row.h"
#include "kernels/moe/slot_order_send_row.h"

namespace jevons::cuda {

JEVONS_SLOT_ORDER_SEND_KERNELS(JEVONS_LAUNCHER)
JEVONS_SLOT_ORDER_RECEIVE_KERNELS(JEVONS_LAUNCHER)

}  // namespace jevons::cuda
