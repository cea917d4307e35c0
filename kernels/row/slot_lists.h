// Slots that leave a rank: the lists of their order, and what each rank is told.
#pragma once

#include <cstdint>

#include "kernels/row/slot_counts.h"

namespace jevons {

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
    return shape.room.fixed() ? rank * shape.room.slots : begins[rank];
  }
  JEVONS_HD std::int64_t first_row(std::int64_t rank) const {
    const std::int32_t* of_tokens = begins + shape.rule.ranks;
    return shape.room.fixed() ? rank * shape.room.tokens : of_tokens[rank] - of_tokens[0];
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

// What each rank is told, and -1 in the rest of its room; a call per rank.
struct SlotMessageKernel {
  OutgoingShape shape;
  const std::int32_t* of_expert;  // (E + 1): begins, of slots before any is dropped
  const std::int32_t* of_rank;    // (2P + 1): begins
  std::int64_t* counts;           // (P, e + 1)
  std::int64_t *strays, *dropped;
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
    if (!shape.room.fixed()) return;
    const SlotRoom& room = shape.room;
    empty(group, send_index, rank * room.tokens + tokens[1] - tokens[0], (rank + 1) * room.tokens);
    empty(group, slot_flat, rank * room.slots + slots[1] - slots[0], (rank + 1) * room.slots);
    empty(group, notes, 2 * (rank * room.slots + slots[1] - slots[0]), 2 * (rank + 1) * room.slots);
  }

 private:
  JEVONS_HD void total() const {
    const std::int64_t valid = of_expert[shape.rule.experts];
    *strays = shape.tokens * shape.top_k - valid;
    if (dropped != nullptr) *dropped = valid - of_rank[shape.rule.ranks];
  }

  template <class Group>
  JEVONS_HD static void empty(const Group& group, std::int32_t* list, std::int64_t begin, std::int64_t end) {
    group.each(end - begin, [at = list + begin](std::int64_t i) { at[i] = -1; });
  }
};

}  // namespace jevons
