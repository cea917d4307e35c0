// The one place where ranks' numbers are added: in rank order, in the accumulator type, rounded once. Every
// back end calls it, so the bits of a sum do not depend on the back end, the algorithm or the size of the
// message.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/communicator.h"

namespace jevons {

// out[i] = parts[0][i] op parts[1][i] op ..., n elements of `dtype` each, not u8. out may be one of the
// parts.
void reduce_in_rank_order(ReduceOp op, DType dtype, std::span<const void* const> parts, std::int64_t n,
                          void* out);

}  // namespace jevons
