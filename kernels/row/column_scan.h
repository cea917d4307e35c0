// The order of slots by counting: a call counts the slots of one block for every column (expert or rank), the
// counts become positions by a scan over the blocks, and every slot adds how many of its block come before
// it. Blocks are fixed and nothing is added atomically. The CPU has loops of its own
// (kernels/cpu/slot_order.cpp).
#pragma once

#include <cstdint>

#include "kernels/row/block.h"

namespace jevons {

// Slots of one block at most: a slot looks at all before it, so the work of a block is its square.
inline constexpr std::int64_t kSlotBlock = 512;

// Slots before each block and column, in place of the counts, and before each column: positions in the order
// by column, block. One call for all of it.
struct ColumnScanKernel {
  static constexpr int kAhead = 8;  // loads under way at once
  std::int32_t* counts;             // (blocks, columns)
  std::int32_t* totals;             // (columns)
  std::int32_t* begins;             // (columns + 1)
  std::int64_t blocks, columns;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t) const {
    group.each(columns, [*this](std::int64_t column) { totals[column] = scan(counts + column); });
    group.sync();
    group.each(columns + 1, [t = totals, begins = begins](std::int64_t column) {
      std::int32_t begin = 0;
      for (std::int64_t c = 0; c < column; ++c) begin += t[c];
      begins[column] = begin;
    });
  }

 private:
  JEVONS_HD std::int32_t scan(std::int32_t* count) const {
    std::int32_t before = 0;
    for (std::int64_t block = 0; block < blocks; block += kAhead) {
      std::int32_t n[kAhead];
      for (int i = 0; i < kAhead; ++i) n[i] = block + i < blocks ? count[(block + i) * columns] : 0;
      for (int i = 0; i < kAhead; ++i) {
        if (block + i < blocks) count[(block + i) * columns] = before;
        before += n[i];
      }
    }
    return before;
  }
};

}  // namespace jevons
