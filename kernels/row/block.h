// Blocks of flat ranges and addresses of rows, as row kernels see them.
#pragma once

#include <cstdint>

#include "kernels/core/host_device.h"
#include "kernels/heads.h"

namespace jevons {

// A flat range is worked on in blocks of this many elements; partial sums are kept per block, so the constant
// is part of the result's bits.
inline constexpr std::int64_t kFlatBlock = 8192;

JEVONS_HD constexpr std::int64_t blocks_of(std::int64_t n, std::int64_t block) {
  return (n + block - 1) / block;
}
JEVONS_HD constexpr std::int64_t flat_blocks(std::int64_t numel) {
  return blocks_of(numel, kFlatBlock);
}

// Columns of one call of a kernel that walks over all rows.
inline constexpr std::int64_t kColumnBlock = 64;

// Elements [begin, begin + size) of a range.
struct Block {
  std::int64_t begin, size;
};
JEVONS_HD constexpr Block block_at(std::int64_t index, std::int64_t n, std::int64_t block = kFlatBlock) {
  const std::int64_t begin = index * block;
  return {begin, n - begin < block ? n - begin : block};
}

// n = quotient * by + remainder, for n >= 0. A GPU divides 32-bit numbers several times faster than 64-bit
// ones, and takes as long for a division as for a row otherwise.
struct Quotient {
  std::int64_t quotient, remainder;
};
JEVONS_HD constexpr Quotient divide(std::int64_t n, std::int64_t by) {
  if (((n | by) >> 32) != 0) return {n / by, n % by};
  const auto a = static_cast<std::uint32_t>(n), b = static_cast<std::uint32_t>(by);
  return {a / b, a % b};
}

// Rows of `dim` elements inside a matrix: row r is head r % heads of matrix row r / heads. A plain matrix has
// one head.
template <class T>
struct Rows {
  T* base;              // first element of row 0
  std::int64_t stride;  // elements from one matrix row to the next
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t pitch;  // elements from one head to the next

  JEVONS_HD T* operator[](std::int64_t row) const {
    if (heads == 1) return base + row * stride;
    const Quotient at = divide(row, heads);
    return base + at.quotient * stride + at.remainder * pitch;
  }
};

template <class T>
Rows<T> rows_of(const HeadView& view) {
  T* base = view.base.ptr<T>();
  return {base == nullptr ? base : base + view.first_col, view.base.cols(), view.heads, view.head_dim,
          view.pitch()};
}

}  // namespace jevons
