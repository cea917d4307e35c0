// Runs a row kernel on the threads of this worker.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/launch.h"
#include "kernels/cpu/row_group.h"

namespace jevons::cpu {

// kernel(group, row) for every row of [0, rows). elements_per_row sizes the blocks that threads take: about
// 16k elements each, some microseconds, enough to hide the cost of handing them out.
template <class Kernel>
void launch_rows(int threads, std::int64_t rows, std::int64_t elements_per_row, const Kernel& kernel) {
  constexpr std::int64_t kElementsPerBlock = 16384;
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsPerBlock / std::max<std::int64_t>(1, elements_per_row));
  parallel_for(threads, rows, grain, [&kernel](std::int64_t begin, std::int64_t end) {
    const RowGroup group;
    for (std::int64_t row = begin; row < end; ++row) kernel(group, row);
  });
}

}  // namespace jevons::cpu
