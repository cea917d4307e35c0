// The order of received slots by expert, what follows from it (rows of a token, lists through lists), and
// notes that are not what their ranks announced; counted and scanned as in slot_order_send_row.h. Kernels run
// in the order in which they stand here.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/moe/slot_order_send_row.h"

namespace jevons {

// Where the slots and tokens of a source rank begin, and how many there are.
struct Source {
  std::int64_t slot, token, slots, tokens;
};

struct IncomingShape {
  std::int64_t positions, ranks, experts, top_k;  // W, P, e, K
  SlotPadding padding;

  JEVONS_HD std::int64_t blocks() const { return blocks_of(positions, kSlotBlock); }
  // Of a note, -1 = an empty place. One that is out of range counts as the nearest, so that packed rows stay
  // a permutation.
  JEVONS_HD std::int64_t expert_of(std::int32_t note) const {
    if (note < 0) return padding.fixed() ? -1 : 0;
    return note < experts ? note : experts - 1;
  }
  // The rank whose part of the wire holds the position.
  JEVONS_HD std::int64_t source_of_slot(const Source* sources, std::int64_t wire) const {
    std::int64_t rank = 0;
    while (rank + 1 < ranks && wire >= sources[rank + 1].slot) ++rank;
    return rank;
  }
  JEVONS_HD std::int64_t source_of_token(const Source* sources, std::int64_t token_row) const {
    std::int64_t rank = 0;
    while (rank + 1 < ranks && token_row >= sources[rank + 1].token) ++rank;
    return rank;
  }
};

// A call per rank.
struct SourcesKernel {
  IncomingShape shape;
  const std::int64_t* counts;  // (P, e + 1)
  Source* sources;             // (P)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t rank) const {
    const std::int64_t width = shape.experts + 1;
    const auto total = [&group, c = counts](std::int64_t n, std::int64_t first, std::int64_t step) {
      return group.sum(n, [c = c + first, step](std::int64_t i) -> std::int64_t { return c[i * step]; });
    };
    const std::int64_t before = total(rank * width, 0, 1), tokens_before = total(rank, width - 1, width);
    const std::int64_t slots = total(width - 1, rank * width, 1), tokens = counts[(rank + 1) * width - 1];
    group.once([&] {
      const SlotPadding& padding = shape.padding;
      sources[rank] = padding.fixed() ? Source{rank * padding.slots, rank * padding.tokens,
                                               at_most(slots, padding.slots), at_most(tokens, padding.tokens)}
                                      : Source{before - tokens_before, tokens_before, slots, tokens};
    });
  }

 private:
  JEVONS_HD static std::int64_t at_most(std::int64_t count, std::int64_t padding) {
    return count < 0 ? 0 : count < padding ? count : padding;
  }
};

struct EmptyListKernel {
  std::int32_t* list;
  std::int64_t n;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, n);
    group.each(block.size, [at = list + block.begin](std::int64_t i) { at[i] = -1; });
  }
};

struct NoteCountsKernel {
  IncomingShape shape;
  const std::int32_t* notes;  // (W, 2)
  std::int32_t* counts;       // (blocks, e)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block positions = block_at(block, shape.positions, kSlotBlock);
    group.each(shape.experts, [*this, positions, block](std::int64_t expert) {
      std::int32_t count = 0;
      for (std::int64_t i = 0; i < positions.size; ++i)
        count += shape.expert_of(notes[2 * (positions.begin + i)]) == expert ? 1 : 0;
      counts[block * shape.experts + expert] = count;
    });
  }
};

// Slots of ranks before `rank` for the expert, as announced (P, e + 1).
JEVONS_HD inline std::int64_t from_earlier(const IncomingShape& shape, const std::int64_t* announced,
                                           std::int64_t rank, std::int64_t expert) {
  std::int64_t slots = 0;
  for (std::int64_t r = 0; r < rank; ++r) slots += announced[r * (shape.experts + 1) + expert];
  return slots;
}

struct ExpertRowsKernel {
  IncomingShape shape;
  const std::int64_t* announced;  // (P, e + 1)
  const Source* sources;          // (P)
  const std::int32_t* notes;      // (W, 2)
  const std::int32_t* before;     // (blocks, e)
  const std::int32_t* begins;     // (e + 1)
  std::int32_t *expand, *wire_to_row, *row_to_wire;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block positions = block_at(block, shape.positions, kSlotBlock);
    group.each(positions.size,
               [*this, block, positions](std::int64_t i) { place(block, positions.begin, i); });
  }

 private:
  JEVONS_HD void place(std::int64_t block, std::int64_t first, std::int64_t i) const {
    const std::int64_t wire = first + i, expert = shape.expert_of(notes[2 * wire]);
    if (expert < 0) {
      wire_to_row[wire] = -1;
      return;
    }
    std::int32_t place = before[block * shape.experts + expert];  // among all that came for the expert
    for (std::int64_t j = 0; j < i; ++j) place += shape.expert_of(notes[2 * (first + j)]) == expert ? 1 : 0;
    const std::int64_t rank = shape.source_of_slot(sources, wire), row = row_of(expert, rank, place);
    wire_to_row[wire] = static_cast<std::int32_t>(row);
    if (row < 0) return;
    const std::int64_t token = notes[2 * wire + 1];
    const bool known = token >= 0 && token < sources[rank].tokens;
    expand[row] = known ? static_cast<std::int32_t>(sources[rank].token + token) : -1;
    row_to_wire[row] = static_cast<std::int32_t>(wire);
  }

  // -1 = outside of the padded part of its rank.
  JEVONS_HD std::int64_t row_of(std::int64_t expert, std::int64_t rank, std::int64_t place) const {
    if (!shape.padding.fixed()) return begins[expert] + place;
    const std::int64_t capacity = shape.padding.capacity;
    const std::int64_t in_part = place - from_earlier(shape, announced, rank, expert);
    return in_part >= 0 && in_part < capacity ? (expert * shape.ranks + rank) * capacity + in_part : -1;
  }
};

// The first note of each block that is not what its rank announced.
struct ContradictionsKernel {
  IncomingShape shape;
  const std::int64_t* announced;
  const Source* sources;
  const std::int32_t* notes;
  const std::int32_t* begins;
  const std::int32_t* wire_to_row;
  std::int64_t* contradictions;  // (blocks): wire position + 1, or 0

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block positions = block_at(block, shape.positions, kSlotBlock);
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    const double first = group.max(positions.size, [*this, positions](std::int64_t i) -> double {
      return fits(positions.begin + i) ? kNone : -static_cast<double>(positions.begin + i);
    });
    group.once([&] { contradictions[block] = first == kNone ? 0 : static_cast<std::int64_t>(-first) + 1; });
  }

 private:
  // Slots of the same token and rank that stand directly before this one.
  JEVONS_HD std::int64_t slot_of_token(std::int64_t wire, std::int64_t rank_begin) const {
    std::int64_t slot = 0;
    while (slot < shape.top_k && wire - slot - 1 >= rank_begin &&
           notes[2 * (wire - slot - 1) + 1] == notes[2 * wire + 1])
      ++slot;
    return slot;
  }

  // If all earlier notes are what was announced, this one's place among those of its rank for its expert is
  // what the row says.
  JEVONS_HD bool fits(std::int64_t wire) const {
    const std::int64_t expert = notes[2 * wire], token = notes[2 * wire + 1], row = wire_to_row[wire];
    const std::int64_t rank = shape.source_of_slot(sources, wire);
    const Source& source = sources[rank];
    if (wire - source.slot >= source.slots) return expert < 0;  // an empty place
    if (expert < 0 || expert >= shape.experts || token < 0 || token >= source.tokens || row < 0) return false;
    if (wire > source.slot && token < notes[2 * wire - 1]) return false;
    if (slot_of_token(wire, source.slot) >= shape.top_k) return false;
    const std::int64_t first = shape.padding.fixed()
                                   ? (expert * shape.ranks + rank) * shape.padding.capacity
                                   : begins[expert] + from_earlier(shape, announced, rank, expert);
    return row - first < announced[rank * (shape.experts + 1) + expert];
  }
};

// One call: the first contradiction of all blocks.
struct FirstContradictionKernel {
  IncomingShape shape;
  const Source* sources;
  const std::int32_t* notes;
  const std::int64_t* contradictions;  // (blocks)
  std::int64_t* contradiction;         // (4)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t) const {
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    const double first = group.max(shape.blocks(), [m = contradictions](std::int64_t block) -> double {
      return m[block] == 0 ? kNone : -static_cast<double>(m[block]);
    });
    group.once([&] {
      const bool none = first == kNone;
      const std::int64_t wire = none ? 0 : static_cast<std::int64_t>(-first) - 1;
      contradiction[0] = none ? 0 : wire + 1;
      contradiction[1] = none ? 0 : shape.source_of_slot(sources, wire);
      contradiction[2] = none ? 0 : notes[2 * wire];
      contradiction[3] = none ? 0 : notes[2 * wire + 1];
    });
  }
};

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

#define JEVONS_SLOT_ORDER_RECEIVE_KERNELS(X) \
  X(SourcesKernel)                           \
  X(EmptyListKernel)                         \
  X(NoteCountsKernel)                        \
  X(ExpertRowsKernel)                        \
  X(ContradictionsKernel)                    \
  X(FirstContradictionKernel)                \
  X(ReduceIndexKernel)                       \
  X(MapIndicesKernel)
