// Slots that leave a rank: who gets how many. Kernels run in the order in which they stand here, a ColumnScan
// after each.
#pragma once

#include <cstdint>

#include "kernels/row/column_scan.h"
#include "kernels/slot_order.h"

namespace jevons {

// The slots of this rank's tokens, in blocks of whole tokens.
struct OutgoingShape {
  std::int64_t tokens, top_k;
  SlotRule rule;
  SlotRoom room;

  JEVONS_HD std::int64_t experts_of_rank() const { return rule.experts / rule.ranks; }
  JEVONS_HD std::int64_t tokens_of_block() const { return top_k < kSlotBlock ? kSlotBlock / top_k : 1; }
  JEVONS_HD std::int64_t blocks() const { return blocks_of(tokens, tokens_of_block()); }
  JEVONS_HD Block tokens_at(std::int64_t block) const { return block_at(block, tokens, tokens_of_block()); }
  JEVONS_HD bool is_expert(std::int64_t index) const { return index >= 0 && index < rule.experts; }
};

struct ExpertCountsKernel {
  OutgoingShape shape;
  const std::int32_t* indices;  // (T, K)
  std::int32_t* counts;         // (blocks, E)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block tokens = shape.tokens_at(block);
    const std::int32_t* chosen = indices + tokens.begin * shape.top_k;
    std::int32_t* out = counts + block * shape.rule.experts;
    group.each(shape.rule.experts, [chosen, out, n = tokens.size * shape.top_k](std::int64_t expert) {
      std::int32_t count = 0;
      for (std::int64_t i = 0; i < n; ++i) count += chosen[i] == expert ? 1 : 0;
      out[expert] = count;
    });
  }
};

// The rank that each slot goes to, and slots and distinct tokens of the block for every rank.
struct SlotRanksKernel {
  OutgoingShape shape;
  const std::int32_t* indices;
  const std::int32_t* before;  // (blocks, E): slots for the expert in earlier blocks
  std::int32_t* rank_of;       // (T, K), -1 = dropped
  std::int32_t* counts;        // (blocks, 2P): slots for each rank, then tokens

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block tokens = shape.tokens_at(block);
    const std::int64_t first = tokens.begin * shape.top_k, ranks = shape.rule.ranks;
    group.each(tokens.size * shape.top_k, [*this, block, first](std::int64_t slot) {
      rank_of[first + slot] = rank(block, indices + first, slot);
    });
    group.sync();
    group.each(ranks, [*this, tokens, first, out = counts + block * 2 * ranks, ranks](std::int64_t rank) {
      std::int32_t slots = 0, met = 0;
      for (std::int64_t t = 0; t < tokens.size; ++t) {
        std::int32_t n = 0;
        for (std::int64_t k = 0; k < shape.top_k; ++k)
          n += rank_of[first + t * shape.top_k + k] == rank ? 1 : 0;
        slots += n;
        met += n > 0 ? 1 : 0;
      }
      out[rank] = slots;
      out[ranks + rank] = met;
    });
  }

 private:
  JEVONS_HD std::int32_t rank(std::int64_t block, const std::int32_t* chosen, std::int64_t slot) const {
    const std::int32_t expert = chosen[slot];
    if (!shape.is_expert(expert)) return -1;
    if (shape.rule.capacity != kNoCapacity) {
      std::int64_t taken = before[block * shape.rule.experts + expert];
      for (std::int64_t i = 0; i < slot; ++i) taken += chosen[i] == expert ? 1 : 0;
      if (taken >= shape.rule.capacity) return -1;
    }
    return static_cast<std::int32_t>(expert / shape.experts_of_rank());
  }
};

}  // namespace jevons
