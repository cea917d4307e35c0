// Which positions of a sequence some of its rows are: runs of neighbours, dealt out in stripes.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/host_device.h"

namespace jevons {

// Runs of `run` positions, each of which begins `step` behind the one before; unless said otherwise all rows
// are one run. Increasing: step >= run.
struct Positions {
  std::int64_t first = 0;  // of row 0
  std::int64_t run = std::numeric_limits<std::int64_t>::max();
  std::int64_t step = 0;

  JEVONS_HD constexpr std::int64_t operator[](std::int64_t row) const {
    return row < run ? first + row : first + row / run * step + row % run;
  }
  // From `row` on, which begins a run; or, of rows within one run, from any.
  JEVONS_HD constexpr Positions from(std::int64_t row) const { return {(*this)[row], run, step}; }
};

}  // namespace jevons
