#include "trainer/model/kv_cache.h"

#include "kernels/core/error.h"

namespace jevons {

KvCache::KvCache(Device device, DType dtype, const CacheSize& size, std::span<const std::int64_t> columns)
    : size_(size) {
  ENSURE(size.sequences > 0 && size.positions > 0, "a cache of {} sequences of {} positions", size.sequences,
         size.positions);
  const std::int64_t rows = size.sequences * size.positions;
  std::size_t bytes = 0;
  std::vector<std::size_t> begins;
  for (const std::int64_t n : columns) {
    begins.push_back(bytes);
    const std::size_t layer = static_cast<std::size_t>(rows * n) * size_of(dtype);
    bytes += (layer + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  }
  buffer_ = Buffer(device, bytes);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    layers_.push_back(buffer_.view(begins[i], {rows, columns[i]}, dtype));
  }
}

}  // namespace jevons
