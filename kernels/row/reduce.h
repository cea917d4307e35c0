// Second half of a reduction over rows: the partial sums of row blocks, added up in the order of the blocks.
#pragma once

#include "kernels/row/block.h"

namespace jevons {

// y (cols) += sum over rows of partial (rows, cols), row 0 first.
template <class A>
struct AddRowsKernel {
  const A* partial;
  A* y;
  std::int64_t rows, cols;

  std::int64_t width() const { return kColumnBlock; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, cols, kColumnBlock);
    A* out = y + block.begin;
    for (std::int64_t row = 0; row < rows; ++row) {
      group.each(block.size,
                 [out, in = partial + row * cols + block.begin](std::int64_t i) { out[i] += in[i]; });
    }
  }
};

}  // namespace jevons
