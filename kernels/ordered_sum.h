// Numbers of several ranks combined element by element: in rank order, in the accumulator type, rounded once.
// Every communicator calls it, so the bits of a sum do not depend on the back end, the algorithm or the size
// of the message.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/dtype.h"
#include "kernels/core/stream.h"

namespace jevons {

enum class ReduceOp : std::uint8_t { kSum, kMax, kMin };

// out[i] = parts[0][i] op parts[1][i] op ..., n elements of `dtype` each, not u8, in memory of the host. out
// may be one of the parts.
void reduce_in_rank_order(ReduceOp op, DType dtype, std::span<const void* const> parts, std::int64_t n,
                          void* out);

// The same on a GPU, as work of `stream`: `count` parts, `stride` elements apart.
struct DeviceParts {
  const void* data = nullptr;
  int count = 0;
  std::int64_t n = 0, stride = 0;
};
void reduce_in_rank_order(const Stream& stream, ReduceOp op, DType dtype, const DeviceParts& parts,
                          void* out);

}  // namespace jevons
