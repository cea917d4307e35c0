// Attention of generation: one new token of each of several sequences over the keys and values of the tokens
// before it, which lie in a cache. What full sequences ask: kernels/attention.h.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

// Where rows belong. Row b is position positions[b] of the cached sequence slots[b], and sees the positions
// [0, positions[b]] of it. On the GPU they are trusted: nothing checks them there.
struct CachePlaces {
  Tensor slots;               // (B) i32
  Tensor positions;           // (B) i32, less than capacity
  std::int64_t capacity = 0;  // positions of a sequence in a cache
};

// cache's row slots[b] * capacity + positions[b] becomes row b of x, head by head. The same dtype, f32, bf16
// or f64; cache.base has whole sequences of `capacity` rows.
void cache_heads(const Context&, const CachePlaces&, HeadView x, HeadView cache);

// q and o (B rows), k and v views of caches as above. k and v may have fewer heads (a divisor of q's), and
// v's head_dim, which is o's, may differ from q's. Scores, softmax and sums are in the accumulator dtype.
struct DecodeAttention {
  HeadView q, k, v, o;
  float scale = 1;  // multiplies q k^T
};
// Writes o. Takes (B, heads of q, capacity) accumulators from ctx.work meanwhile.
void decode_attention(const Context&, const CachePlaces&, const DecodeAttention&);

}  // namespace jevons
