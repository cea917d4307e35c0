#include "kernels/cpu/routing.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "kernels/cpu/launch.h"

namespace jevons::cpu {

void routing_counts(const Context& ctx, Tensor indices, const Segments& segments, Tensor counts) {
  const std::int32_t* const index = indices.ptr<std::int32_t>();
  std::int64_t* const out = counts.ptr<std::int64_t>();
  const std::int64_t rows = indices.rows(), top_k = indices.cols(), experts = counts.cols();
  parallel_for(ctx, segments.count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t segment = begin; segment < end; ++segment) {
      std::int64_t* const count = out + segment * experts;
      std::fill_n(count, experts, 0);
      const RowRange range = rows_of_segment(segments, segment, rows);
      for (std::int64_t i = range.begin * top_k; i < range.end * top_k; ++i) {
        ENSURE(index[i] >= 0 && index[i] < experts, "routing_counts: expert {} of {}", index[i], experts);
        ++count[index[i]];
      }
    }
  });
}

}  // namespace jevons::cpu
