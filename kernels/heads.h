// A view of attention heads inside the rows of a matrix, so that q, k and v may share one fused projection.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace jevons {

// Head h of row t is base[t, first_col + h * head_dim .. + head_dim).
struct HeadView {
  Tensor base;  // (T, columns)
  std::int64_t first_col = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
};

}  // namespace jevons
