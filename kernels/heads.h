// A view of attention heads inside the rows of a matrix, so that q, k and v may share one fused projection,
// and a head may be a part of a wider one (the 128 columns without rotation of a head of 128 + 64).
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace jevons {

// Head h of row t is base[t, first_col + h * pitch() .. + head_dim).
struct HeadView {
  Tensor base;  // (T, columns)
  std::int64_t first_col = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t stride = 0;  // columns from one head to the next, at least head_dim; 0: heads lie side by side

  std::int64_t pitch() const { return stride == 0 ? head_dim : stride; }
  // Columns from the first head's first to the last head's last.
  std::int64_t width() const { return heads == 0 ? 0 : (heads - 1) * pitch() + head_dim; }
  // Heads [first, first + count).
  HeadView part(std::int64_t first, std::int64_t count) const {
    return {base, first_col + first * pitch(), count, head_dim, stride};
  }
};

}  // namespace jevons
