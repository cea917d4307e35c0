// Slots that leave a rank: who gets how many, the lists of their order, and the message to each rank. Kernels
// run in the order in which they stand here, a column scan after each that counts: a call counts the slots of
// one block for every column (expert or rank), the counts become positions by a scan over the blocks, and
// every slot adds how many of its block come before it. Blocks are fixed and nothing is added atomically. The
// CPU has loops of its own (slot_order_cpu.cpp).
#pragma once

#include <cstdint>

#include "kernels/moe/slot_order.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"

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

// The slots of this rank's tokens, in blocks of whole tokens.
struct OutgoingShape {
  std::int64_t tokens, top_k;
  SlotRule rule;
  SlotPadding padding;

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

struct SlotListsKernel {
  OutgoingShape shape;
  const std::int32_t* indices;
  const std::int32_t* rank_of;
  const std::int32_t* before;  // (blocks, 2P)
  const std::int32_t* begins;  // (2P + 1)
  std::int32_t *send_index, *slot_flat, *slot_row, *token_row, *notes;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block tokens = shape.tokens_at(block);
    group.each(tokens.size * shape.top_k,
               [*this, tokens, block](std::int64_t slot) { place(block, tokens.begin, slot); });
  }

 private:
  JEVONS_HD std::int64_t first_slot(std::int64_t rank) const {
    return shape.padding.fixed() ? rank * shape.padding.slots : begins[rank];
  }
  JEVONS_HD std::int64_t first_row(std::int64_t rank) const {
    const std::int32_t* of_tokens = begins + shape.rule.ranks;
    return shape.padding.fixed() ? rank * shape.padding.tokens : of_tokens[rank] - of_tokens[0];
  }

  JEVONS_HD void place(std::int64_t block, std::int64_t first_token, std::int64_t slot) const {
    const std::int64_t top_k = shape.top_k, token = slot / top_k, flat = first_token * top_k + slot;
    const std::int32_t rank = rank_of[flat];
    std::int32_t wire = -1, row = -1;
    if (rank >= 0) {
      const std::int32_t* of_block = rank_of + first_token * top_k;
      std::int32_t slots = 0, met = 0, of_token = 0;
      for (std::int64_t t = 0; t < token; ++t) {
        std::int32_t n = 0;
        for (std::int64_t k = 0; k < top_k; ++k) n += of_block[t * top_k + k] == rank ? 1 : 0;
        slots += n;
        met += n > 0 ? 1 : 0;
      }
      for (std::int64_t i = token * top_k; i < slot; ++i) of_token += of_block[i] == rank ? 1 : 0;
      const std::int64_t ranks = shape.rule.ranks;
      const std::int32_t* earlier = before + block * 2 * ranks;
      wire = static_cast<std::int32_t>(first_slot(rank)) + earlier[rank] + slots + of_token;
      const std::int32_t in_message = earlier[ranks + rank] + met;
      slot_flat[wire] = static_cast<std::int32_t>(flat);
      notes[2 * wire] = static_cast<std::int32_t>(indices[flat] % shape.experts_of_rank());
      notes[2 * wire + 1] = in_message;
      if (of_token == 0) {
        row = static_cast<std::int32_t>(first_row(rank)) + in_message;
        send_index[row] = static_cast<std::int32_t>(first_token + token);
      }
    }
    slot_row[flat] = wire;
    if (token_row != nullptr) token_row[flat] = row;
  }
};

// The message to each rank, and -1 in its padding; a call per rank.
struct SlotMessageKernel {
  OutgoingShape shape;
  const std::int32_t* of_expert;  // (E + 1): begins, of slots before any is dropped
  const std::int32_t* of_rank;    // (2P + 1): begins
  std::int64_t* counts;           // (P, e + 1)
  std::int64_t *out_of_range, *dropped;
  std::int32_t *send_index, *slot_flat, *notes;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t rank) const {
    const std::int64_t local = shape.experts_of_rank(), capacity = shape.rule.capacity;
    const std::int32_t* begin = of_expert + rank * local;
    std::int64_t* message = counts + rank * (local + 1);
    group.each(local, [begin, message, capacity](std::int64_t expert) {
      const std::int64_t n = begin[expert + 1] - begin[expert];
      message[expert] = n < capacity ? n : capacity;
    });
    const std::int32_t *slots = of_rank + rank, *tokens = slots + shape.rule.ranks;
    group.once([&] {
      message[local] = tokens[1] - tokens[0];
      if (rank == 0) total();
    });
    if (!shape.padding.fixed()) return;
    const SlotPadding& padding = shape.padding;
    empty(group, send_index, rank * padding.tokens + tokens[1] - tokens[0], (rank + 1) * padding.tokens);
    empty(group, slot_flat, rank * padding.slots + slots[1] - slots[0], (rank + 1) * padding.slots);
    empty(group, notes, 2 * (rank * padding.slots + slots[1] - slots[0]), 2 * (rank + 1) * padding.slots);
  }

 private:
  JEVONS_HD void total() const {
    const std::int64_t valid = of_expert[shape.rule.experts];
    *out_of_range = shape.tokens * shape.top_k - valid;
    if (dropped != nullptr) *dropped = valid - of_rank[shape.rule.ranks];
  }

  template <class Group>
  JEVONS_HD static void empty(const Group& group, std::int32_t* list, std::int64_t begin, std::int64_t end) {
    group.each(end - begin, [at = list + begin](std::int64_t i) { at[i] = -1; });
  }
};

}  // namespace jevons

#define JEVONS_SLOT_ORDER_SEND_KERNELS(X) \
  X(ColumnScanKernel)                     \
  X(ExpertCountsKernel)                   \
  X(SlotRanksKernel)                      \
  X(SlotListsKernel)                      \
  X(SlotMessageKernel)
