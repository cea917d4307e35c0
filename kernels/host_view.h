// Figures that the host reads from a device. Not for the many numbers of
// activations and weights: those stay where they are.
#pragma once

#include "kernels/core/context.h"

namespace jevons {

// The tensor itself if it is on the CPU. On kCuda: a copy in pinned memory, taken after the work that
// ctx.stream was given so far, for which the host waits; valid until this thread's next call. Not for kMeta.
Tensor host_view(const Context& ctx, const Tensor& tensor);

}  // namespace jevons
