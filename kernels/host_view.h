// Figures that the host reads from a device or exchanges with other hosts. Not for the many numbers of
// activations and weights: those stay where they are.
#pragma once

#include <vector>

#include "kernels/core/context.h"

namespace jevons {

// The tensor itself if it is on the CPU. On kCuda: a copy in pinned memory, taken after the work that
// ctx.stream was given so far, for which the host waits; valid until this thread's next call. Not for kMeta.
Tensor host_view(const Context& ctx, const Tensor& tensor);

// Host memory of `values` as a tensor, for the collectives of the hosts. On kMeta a tensor without memory.
template <class T>
Tensor host_tensor(Device device, std::vector<T>& values, Shape shape) {
  if (device == Device::kMeta) return {nullptr, shape, dtype_of<T>::value, device};
  return {values.data(), shape, dtype_of<T>::value, Device::kCpu};
}

}  // namespace jevons
