// The one place where a row kernel meets a device.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/core/error.h"
#include "kernels/cpu/row_launch.h"
#include "kernels/row/block.h"

namespace jevons {
namespace cuda {

// For rows > 0. Instantiated in kernels/cuda/row_*.cu, or kernels/no_cuda/rows.cpp, for every kernel in the
// list of its file (kernels/row/instances.h).
template <class Kernel>
void launch_rows(const Stream& stream, std::int64_t rows, std::int64_t elements_per_row,
                 const Kernel& kernel);

}  // namespace cuda

// Runs kernel(group, row) for every row of [0, rows) on `device`; on kMeta there is nothing to do.
// elements_per_row tells the back end how much work a row is. Kernel is a named struct, trivially copyable,
// and listed at the foot of its file.
template <class Kernel>
void launch_rows(const Context& ctx, Device device, std::int64_t rows, std::int64_t elements_per_row,
                 const Kernel& kernel) {
  switch (device) {
    case Device::kMeta:
      return;
    case Device::kCpu:
      cpu::launch_rows(ctx.threads, rows, elements_per_row, kernel);
      return;
    case Device::kCuda:
      ENSURE(ctx.stream != nullptr, "row kernels on a GPU need a stream in their context");
      if (rows > 0) cuda::launch_rows(*ctx.stream, rows, elements_per_row, kernel);
      return;
  }
}

// For kernels over flat ranges, whose "row" is a block of kFlatBlock elements.
template <class Kernel>
void launch_flat(const Context& ctx, Device device, std::int64_t numel, const Kernel& kernel) {
  launch_rows(ctx, device, flat_blocks(numel), kFlatBlock, kernel);
}

}  // namespace jevons
