#include "kernels/figures.h"

#include <algorithm>

namespace jevons {
namespace {

constexpr std::int64_t kRowsOfChunk = 64;

}  // namespace

// `count` rows from `index` on of a chunk.
Tensor Figures::row_of(const Buffer& chunk, std::int64_t index, std::int64_t count) const {
  const auto offset = static_cast<std::size_t>(index * per_row_) * size_of(dtype_);
  return chunk.view(offset, {count * per_row_}, dtype_);
}

Tensor Figures::add_row(const Context& ctx) {
  if (rows_ == std::ssize(chunks_) * kRowsOfChunk) {
    const auto bytes = static_cast<std::size_t>(kRowsOfChunk * per_row_) * size_of(dtype_);
    chunks_.push_back({Buffer(device_, bytes), Buffer::pinned_for(device_, bytes)});
  }
  const Chunk& chunk = chunks_[static_cast<std::size_t>(rows_ / kRowsOfChunk)];
  const Tensor row = row_of(chunk.here, rows_ % kRowsOfChunk, 1);
  zero_async(ctx.stream, row);
  ++rows_;
  return row;
}

void Figures::fetch(const Context& ctx) const {
  for (std::int64_t begin = 0; begin < rows_; begin += kRowsOfChunk) {
    const Chunk& chunk = chunks_[static_cast<std::size_t>(begin / kRowsOfChunk)];
    const std::int64_t count = std::min(rows_ - begin, kRowsOfChunk);
    copy_async(ctx.stream, row_of(chunk.host, 0, count), row_of(chunk.here, 0, count));
  }
}

Tensor Figures::row(std::int64_t index) const {
  const Chunk& chunk = chunks_[static_cast<std::size_t>(index / kRowsOfChunk)];
  return row_of(chunk.host, index % kRowsOfChunk, 1);
}

}  // namespace jevons
