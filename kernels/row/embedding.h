// Embedding rows of a vocabulary slice.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
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
// tokens: no two calls write the same element, and each element has one order of additions. For the CPU; a
// GPU has more threads than columns, and takes the two kernels below.
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

struct TokenAt {
  std::int32_t id, position;
};

// sorted (rows): the tokens by id, those of one id in their order. One call finds the place of one token by
// counting those before it: rows^2 comparisons in all, which up to 64k tokens cost about as much as the
// additions that follow.
struct SortTokensKernel {
  const std::int32_t* tokens;
  TokenAt* sorted;
  std::int64_t rows;

  std::int64_t width() const { return 1; }  // many small groups: each reads all tokens from the cache

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int32_t id = tokens[row];
    const std::int32_t place = group.sum(rows, [=, tokens = tokens](std::int64_t i) -> std::int32_t {
      return (tokens[i] < id) | ((tokens[i] == id) & (i < row));
    });
    group.once([&] { sorted[place] = {id, static_cast<std::int32_t>(row)}; });
  }
};

// Columns of one call of EmbeddingBackwardSortedKernel.
inline constexpr std::int64_t kEmbeddingColumns = 256;

// The sums of EmbeddingBackwardKernel, to the bit. One call is one place in `sorted` and a block of columns:
// it works if its token is the first of its id, and then adds all tokens of that id.
template <class T>
struct EmbeddingBackwardSortedKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kAtOnce = 8;  // rows that are loaded together
  const T* dy;                       // (rows, cols)
  const TokenAt* sorted;
  A* d_table;  // (slice, cols)
  std::int64_t rows, cols;
  VocabSlice slice;

  std::int64_t width() const { return kEmbeddingColumns; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Quotient at = divide(index, blocks_of(cols, kEmbeddingColumns));
    const std::int64_t first = at.quotient;
    const std::int32_t id = sorted[first].id;
    if (!slice.holds(id) || (first > 0 && sorted[first - 1].id == id)) return;
    const Block block = block_at(at.remainder, cols, kEmbeddingColumns);
    const T* in = dy + block.begin;
    A* out = d_table + (id - slice.begin) * cols + block.begin;
    group.each(block.size, [=, end = end_of_run(first), sorted = sorted, cols = cols](auto i) {
      auto sum = load(out, i);
      std::int64_t k = first;
      for (; k + kAtOnce <= end; k += kAtOnce) {
        for (int j = 0; j < kAtOnce; ++j) sum += load(in + sorted[k + j].position * cols, i);
      }
      for (; k < end; ++k) sum += load(in + sorted[k].position * cols, i);
      store(out, i, sum);
    });
  }

 private:
  // Behind the last token with the id of `first`: steps that double, then halves.
  JEVONS_HD std::int64_t end_of_run(std::int64_t first) const {
    const std::int32_t id = sorted[first].id;
    std::int64_t step = 1;
    while (first + step < rows && sorted[first + step].id == id) step *= 2;
    std::int64_t inside = first + step / 2, beyond = first + step < rows ? first + step : rows;
    while (beyond - inside > 1) {
      const std::int64_t middle = inside + (beyond - inside) / 2;
      (sorted[middle].id == id ? inside : beyond) = middle;
    }
    return beyond;
  }
};

}  // namespace jevons

#define JEVONS_EMBEDDING_KERNELS(X)             \
  X(EmbeddingKernel)                            \
  X(SortTokensKernel)                           \
  JEVONS_FOR_FLOATS(X, EmbeddingBackwardKernel) \
  JEVONS_FOR_FLOATS(X, EmbeddingBackwardSortedKernel)
