// Row kernels of a program without a GPU back end.
#include "kernels/core/error.h"
#include "kernels/moe/balance_row.h"
#include "kernels/moe/margins_row.h"
#include "kernels/moe/permute_row.h"
#include "kernels/moe/routing_row.h"
#include "kernels/moe/slot_order_receive_row.h"
#include "kernels/moe/slot_order_send_row.h"
#include "kernels/row/cross_entropy.h"
#include "kernels/row/decode_attention.h"
#include "kernels/row/elementwise.h"
#include "kernels/row/embedding.h"
#include "kernels/row/head_copy.h"
#include "kernels/row/launch.h"
#include "kernels/row/next_tokens.h"
#include "kernels/row/norm.h"
#include "kernels/row/optimizer.h"
#include "kernels/row/ordered_sum.h"
#include "kernels/row/reduce.h"
#include "kernels/row/rope.h"
#include "kernels/row/stripes.h"
#include "kernels/row/swiglu.h"

namespace jevons::cuda {

template <class Kernel>
void launch_rows(const Stream&, std::int64_t, std::int64_t, const Kernel&) {
  fail(ExitCode::kFailure, "row kernels: this build has no CUDA back end");
}

#define LAUNCHER(...) \
  template void launch_rows(const Stream&, std::int64_t, std::int64_t, const __VA_ARGS__&);
JEVONS_ACTIVATION_KERNELS(LAUNCHER)
JEVONS_BALANCE_KERNELS(LAUNCHER)
JEVONS_CROSS_ENTROPY_KERNELS(LAUNCHER)
JEVONS_DECODE_ATTENTION_KERNELS(LAUNCHER)
JEVONS_ELEMENTWISE_KERNELS(LAUNCHER)
JEVONS_EMBEDDING_KERNELS(LAUNCHER)
JEVONS_HEAD_COPY_KERNELS(LAUNCHER)
JEVONS_MARGINS_KERNELS(LAUNCHER)
JEVONS_NEXT_TOKENS_KERNELS(LAUNCHER)
JEVONS_NORM_KERNELS(LAUNCHER)
JEVONS_OPTIMIZER_KERNELS(LAUNCHER)
JEVONS_ORDERED_SUM_KERNELS(LAUNCHER)
JEVONS_PERMUTE_KERNELS(LAUNCHER)
JEVONS_REDUCE_KERNELS(LAUNCHER)
JEVONS_ROPE_KERNELS(LAUNCHER)
JEVONS_ROUTING_KERNELS(LAUNCHER)
JEVONS_SLOT_ORDER_RECEIVE_KERNELS(LAUNCHER)
JEVONS_SLOT_ORDER_SEND_KERNELS(LAUNCHER)
JEVONS_STRIPE_KERNELS(LAUNCHER)

}  // namespace jevons::cuda
