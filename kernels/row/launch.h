// The one place where a row kernel meets a device.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/core/error.h"
#include "kernels/cpu/row_launch.h"
#include "kernels/row/block.h"

namespace jevons {

// Runs kernel(group, row) for every row of [0, rows) on `device`; on kMeta there is nothing to do.
// elements_per_row tells the back end how much work a row is. Kernel is a named struct, trivially copyable,
// so that a device back end can instantiate its launcher for it in a file of its own.
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
      fail(ExitCode::kFailure, "row kernels: this build has no CUDA back end");
  }
}

// For kernels over flat ranges, whose "row" is a block of kFlatBlock elements.
template <class Kernel>
void launch_flat(const Context& ctx, Device device, std::int64_t numel, const Kernel& kernel) {
  launch_rows(ctx, device, flat_blocks(numel), kFlatBlock, kernel);
}

}  // namespace jevons
