#include "kernels/core/context.h"

#include "kernels/core/whereabouts.h"

namespace jevons {

void Context::synchronise() const {
  if (stream == nullptr) return;
  const DeviceWaitScope waits(device == Device::kCuda ? whereabouts : nullptr);
  stream->synchronise();
}

}  // namespace jevons
