// Sums of what several ranks sent, in rank order, on the GPU: the same numbers as parallel/ordered_sum.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/core/stream.h"

namespace jevons::cuda {

enum class Combine : std::uint8_t { kSum, kMax, kMin };

// `count` parts of n elements each, `stride` elements apart: out[i] = part 0 [i], combined with part 1 [i],
// and so on in the accumulator type (bf16: fp32), rounded once. dtype is not u8. Work of `stream`; moves
// (count + 1) n elements.
struct Parts {
  const void* data = nullptr;
  int count = 0;
  std::int64_t n = 0, stride = 0;
};
void combine_in_order(const Stream& stream, Combine how, DType dtype, const Parts& parts, void* out);

}  // namespace jevons::cuda
