// Embedding rows of a vocabulary slice.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/scalar.h"

namespace jevons {

// Ids [begin, end) of the vocabulary, of which a table holds one row each.
struct VocabSlice {
  std::int64_t begin, end;
  JEVONS_HD bool holds(std::int64_t id) const { return id >= begin && id < end; }
};

// y[t] = table[tokens[t] - begin], 0 for ids outside of the slice. Rows are moved as bytes; 0 is all bits 0
// in every float type.
struct EmbeddingKernel {
  static constexpr int kPack = kPackOf<std::uint8_t>;
  const std::int32_t* tokens;
  const std::uint8_t* table;  // (slice, row_bytes)
  std::uint8_t* y;            // (rows, row_bytes)
  std::int64_t row_bytes;
  VocabSlice slice;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    std::uint8_t* out = y + row * row_bytes;
    if (slice.holds(tokens[row])) {
      const std::uint8_t* in = table + (tokens[row] - slice.begin) * row_bytes;
      group.each(row_bytes, [in, out](auto i) { move(in, out, i); });
    } else {
      group.each(row_bytes, [out](auto i) { clear(out, i); });
    }
  }
};

// d_table[id] += dy[t] for every token t with that id, in token order. One call is a block of columns of all
// tokens: no two calls write the same element, and each element has one order of additions.
template <class T>
struct EmbeddingBackwardKernel {
  using A = accumulator_t<T>;
  const T* dy;  // (rows, cols)
  const std::int32_t* tokens;
  A* d_table;  // (slice, cols)
  std::int64_t rows, cols;
  VocabSlice slice;

  std::int64_t width() const { return kColumnBlock; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, cols, kColumnBlock);
    for (std::int64_t row = 0; row < rows; ++row) {
      if (!slice.holds(tokens[row])) continue;
      const T* in = dy + row * cols + block.begin;
      A* out = d_table + (tokens[row] - slice.begin) * cols + block.begin;
      group.each(block.size, [in, out](std::int64_t i) { out[i] += load(in, i); });
    }
  }
};

}  // namespace jevons
