#include "kernels/host_view.h"

#include "kernels/core/error.h"

namespace jevons {

Tensor host_view(const Context& ctx, const Tensor& tensor) {
  if (tensor.device == Device::kCpu) return tensor;
  ENSURE(tensor.device == Device::kCuda && ctx.stream != nullptr, "no host view of {}", tensor.to_string());
  thread_local Buffer pinned;  // kept: page-locking memory costs more than most copies
  if (pinned.bytes() < tensor.bytes()) pinned = Buffer::pinned_for(Device::kCuda, tensor.bytes());
  const Tensor view = pinned.view(0, tensor.shape, tensor.dtype);
  copy_async(ctx.stream, view, tensor);
  ctx.synchronise();
  return view;
}

}  // namespace jevons
