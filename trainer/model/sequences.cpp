#include "trainer/model/sequences.h"

#include <numeric>

#include "kernels/core/error.h"
#include "kernels/moe/permute.h"
#include "kernels/rope.h"
#include "kernels/stripes.h"

namespace jevons {

std::int64_t stripe_run(std::int64_t length, std::int64_t parts) {
  constexpr std::int64_t kMost = 128;
  return std::gcd(length / parts, kMost);
}

Sequences sequences_here(const Context& ctx, const Communicator& cp, std::int64_t rows, std::int64_t length,
                         Tensor doc_start) {
  const std::int64_t parts = cp.size();
  ENSURE(rows > 0 && rows % length == 0 && length % parts == 0,
         "{} rows are no whole sequences of {} for {} parts", rows, length, parts);
  Sequences s{.length = length, .parts = parts, .positions = {}, .doc_start = doc_start};
  if (parts > 1) {
    const Stripes stripes{length, parts, stripe_run(length, parts)};
    const std::int64_t own = rows / parts, first = cp.rank() * own;
    s.here = stripes.of(cp.rank());
    s.dealt = ctx.stash->alloc({rows}, DType::kI32);
    s.joined = ctx.stash->alloc({rows}, DType::kI32);
    stripe_order(ctx, stripes, s.dealt, s.joined);
    s.rows = s.dealt.slice(first, first + own);
    if (doc_start.defined()) s.doc_start = rows_here(ctx, s, doc_start);
  }
  s.positions = ctx.stash->alloc({rows / parts}, DType::kI32);
  token_positions(ctx, s.local_length(), s.here, s.positions);
  return s;
}

Tensor rows_here(const Context& ctx, const Sequences& sequences, Tensor x) {
  if (sequences.parts == 1) return x;
  const std::int64_t own = sequences.rows.numel();
  const Tensor here = ctx.stash->alloc({own}, x.dtype);
  gather_rows(ctx, x.reshape({x.numel(), 1}), sequences.rows, here.reshape({own, 1}));
  return here;
}

AttentionShape attention_shape(const Sequences& sequences, std::int64_t rows, float scale) {
  return {.batch = rows / sequences.local_length(),
          .q_len = sequences.local_length(),
          .kv_len = sequences.length,
          .queries = sequences.here,
          .scale = scale};
}

}  // namespace jevons
