// What the tokens of several sequences leave in each layer for those that follow them, so that a new token
// costs the same whatever was written before it, but for attention itself.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/memory.h"
#include "kernels/decode_attention.h"
#include "trainer/model/branch.h"

namespace jevons {

// An attention that can go on behind a cache; without tensor parallelism.
template <class B>
concept CachedAttention = requires(const B& branch, const Context& ctx, const typename B::Saved& saved,
                                   const CachePlaces& places, Tensor x, Tensor cache) {
  // Of a position, in the compute dtype.
  { branch.cache_columns() } -> std::same_as<std::int64_t>;
  // Puts into the cache what forward left in `saved` of its rows, whose places these are.
  { branch.remember(ctx, places, saved, cache) } -> std::same_as<void>;
  // A new token of each of several sequences, the rest of which is in the cache: (B, D) -> (B, D) in
  // ctx.work. Remembers them.
  { branch.decode(ctx, x, places, cache) } -> std::same_as<Tensor>;
};

struct CacheSize {
  std::int64_t sequences = 0, positions = 0;
};

class KvCache {
 public:
  // columns: cache_columns() of every layer.
  KvCache(Device device, DType dtype, const CacheSize& size, std::span<const std::int64_t> columns);

  const CacheSize& size() const { return size_; }
  std::size_t bytes() const { return buffer_.bytes(); }
  // (sequences * positions, columns): row s * positions + p is position p of sequence s.
  Tensor layer(std::size_t i) const { return layers_.at(i); }

 private:
  CacheSize size_;
  Buffer buffer_;
  std::vector<Tensor> layers_;
};

}  // namespace jevons
