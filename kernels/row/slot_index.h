// What follows from the order of received slots: the rows of a token, lists through lists.
#pragma once

#include <cstdint>

#include "kernels/row/slot_rows.h"

namespace jevons {

// The rows of each received token: notes of a rank stand in the order of its tokens, so a token's first one
// is found by bisection.
struct ReduceIndexKernel {
  IncomingShape shape;
  std::int64_t tokens;
  const Source* sources;  // (P)
  const std::int32_t* notes;
  const std::int32_t* wire_to_row;
  std::int32_t* reduce_index;  // (tokens, K)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Block block = block_at(row, tokens * shape.top_k, kSlotBlock);
    group.each(block.size, [*this, block](std::int64_t i) {
      const std::int64_t token_row = (block.begin + i) / shape.top_k, slot = (block.begin + i) % shape.top_k;
      reduce_index[block.begin + i] = row_of(token_row, slot);
    });
  }

 private:
  JEVONS_HD std::int32_t row_of(std::int64_t token_row, std::int64_t slot) const {
    const Source& source = sources[shape.source_of_token(sources, token_row)];
    const std::int64_t token = token_row - source.token, end = source.slot + source.slots;
    std::int64_t low = source.slot, high = end;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (notes[2 * middle + 1] < token) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const std::int64_t wire = low + slot;
    return wire < end && notes[2 * wire + 1] == token ? wire_to_row[wire] : -1;
  }
};

struct MapIndicesKernel {
  const std::int32_t* map;
  std::int32_t* index;
  std::int64_t n;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const Block block = block_at(row, n);
    group.each(block.size, [map = map, at = index + block.begin](std::int64_t i) {
      if (at[i] >= 0) at[i] = map[at[i]];
    });
  }
};

}  // namespace jevons
