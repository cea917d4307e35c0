// Row kernels of a program without a GPU back end.
#include "kernels/core/error.h"
#include "kernels/row/balance.h"
#include "kernels/row/cross_entropy.h"
#include "kernels/row/elementwise.h"
#include "kernels/row/embedding.h"
#include "kernels/row/instances.h"
#include "kernels/row/launch.h"
#include "kernels/row/norm.h"
#include "kernels/row/optimizer.h"
#include "kernels/row/permute.h"
#include "kernels/row/reduce.h"
#include "kernels/row/rope.h"
#include "kernels/row/routing.h"
#include "kernels/row/routing_backward.h"
#include "kernels/row/routing_balance.h"
#include "kernels/row/slot_index.h"
#include "kernels/row/slot_lists.h"
#include "kernels/row/slot_misfits.h"
#include "kernels/row/slot_rows.h"
#include "kernels/row/swiglu.h"

namespace jevons::cuda {

template <class Kernel>
void launch_rows(const Stream&, std::int64_t, std::int64_t, const Kernel&) {
  fail(ExitCode::kFailure, "row kernels: this build has no CUDA back end");
}

#define LAUNCHER(...) \
  template void launch_rows(const Stream&, std::int64_t, std::int64_t, const __VA_ARGS__&);
JEVONS_ROW_KERNELS(LAUNCHER)

}  // namespace jevons::cuda
