// The order of received slots by expert; counted and scanned as in kernels/row/slot_order.h. Kernels run in
// the order in which they stand here.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/row/column_scan.h"

namespace jevons {

struct IncomingShape {
  std::int64_t rows, ranks, experts, top_k;  // R, P, e, K

  JEVONS_HD std::int64_t blocks() const { return blocks_of(rows, kSlotBlock); }
  // Of a note; one that is out of range counts as the nearest, so that rows stay a permutation.
  JEVONS_HD std::int64_t expert_of(std::int32_t note) const {
    return note < 0 ? 0 : note < experts ? note : experts - 1;
  }
  // The rank whose run holds the position; runs begin at begins[2 * rank].
  JEVONS_HD std::int64_t source_of(const std::int64_t* begins, std::int64_t position) const {
    std::int64_t rank = 0;
    while (rank + 1 < ranks && position >= begins[2 * (rank + 1)]) ++rank;
    return rank;
  }
};

// Where the slots and tokens of each rank begin; a call per rank, and one for the end.
struct SourceBeginsKernel {
  IncomingShape shape;
  const std::int64_t* counts;  // (P, e + 1)
  std::int64_t* begins;        // (P + 1, 2)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t rank) const {
    const std::int64_t width = shape.experts + 1;
    const std::int64_t all =
        group.sum(rank * width, [c = counts](std::int64_t i) -> std::int64_t { return c[i]; });
    const std::int64_t tokens = group.sum(
        rank, [c = counts, width](std::int64_t r) -> std::int64_t { return c[(r + 1) * width - 1]; });
    group.once([&] {
      begins[2 * rank] = all - tokens;
      begins[2 * rank + 1] = tokens;
    });
  }
};

struct NoteCountsKernel {
  IncomingShape shape;
  const std::int32_t* notes;  // (R, 2)
  std::int32_t* counts;       // (blocks, e)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block wires = block_at(block, shape.rows, kSlotBlock);
    group.each(shape.experts, [*this, wires, block](std::int64_t expert) {
      std::int32_t count = 0;
      for (std::int64_t i = 0; i < wires.size; ++i)
        count += shape.expert_of(notes[2 * (wires.begin + i)]) == expert ? 1 : 0;
      counts[block * shape.experts + expert] = count;
    });
  }
};

struct ExpertRowsKernel {
  IncomingShape shape;
  const std::int64_t* announced;  // (P, e + 1)
  const std::int64_t* sources;    // (P + 1, 2): begins of slots and tokens
  const std::int32_t* notes;      // (R, 2)
  const std::int32_t* before;     // (blocks, e)
  const std::int32_t* begins;     // (e + 1)
  std::int32_t *expand, *wire_to_row, *row_to_wire;
  std::int64_t* misfits;  // (blocks): wire position + 1 of the first misfit, or 0

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block wires = block_at(block, shape.rows, kSlotBlock);
    group.each(wires.size, [*this, block, wires](std::int64_t i) { place(block, wires.begin, i); });
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    const double first = group.max(wires.size, [*this, wires](std::int64_t i) -> double {
      return fits(wires.begin + i) ? kNone : -static_cast<double>(wires.begin + i);
    });
    group.once([&] { misfits[block] = first == kNone ? 0 : static_cast<std::int64_t>(-first) + 1; });
  }

  JEVONS_HD std::int64_t source_of(std::int64_t wire) const { return shape.source_of(sources, wire); }

 private:
  // Slots of the same token and rank that stand directly before this one.
  JEVONS_HD std::int64_t slot_of_token(std::int64_t wire, std::int64_t rank_begin) const {
    std::int64_t slot = 0;
    while (slot < shape.top_k && wire - slot - 1 >= rank_begin &&
           notes[2 * (wire - slot - 1) + 1] == notes[2 * wire + 1])
      ++slot;
    return slot;
  }

  JEVONS_HD void place(std::int64_t block, std::int64_t first, std::int64_t i) const {
    const std::int64_t wire = first + i, expert = shape.expert_of(notes[2 * wire]);
    std::int32_t row = begins[expert] + before[block * shape.experts + expert];
    for (std::int64_t j = 0; j < i; ++j) row += shape.expert_of(notes[2 * (first + j)]) == expert ? 1 : 0;
    const std::int64_t* source = sources + 2 * source_of(wire);
    const std::int64_t tokens = source[3] - source[1], token = notes[2 * wire + 1];
    const std::int64_t token_row = source[1] + (token < 0 ? 0 : token < tokens ? token : tokens - 1);
    expand[row] = static_cast<std::int32_t>(token_row);
    wire_to_row[wire] = row;
    row_to_wire[row] = static_cast<std::int32_t>(wire);
  }

  // Are expert and token what the rank announced? If all earlier notes are, this one's place among those of
  // its rank for its expert is what the row says.
  JEVONS_HD bool fits(std::int64_t wire) const {
    const std::int64_t expert = notes[2 * wire], token = notes[2 * wire + 1], rank = source_of(wire);
    const std::int64_t* source = sources + 2 * rank;
    if (expert < 0 || expert >= shape.experts || token < 0 || token >= source[3] - source[1]) return false;
    if (wire > source[0] && token < notes[2 * wire - 1]) return false;
    if (slot_of_token(wire, source[0]) >= shape.top_k) return false;
    std::int64_t place = wire_to_row[wire] - begins[expert];
    const std::int64_t* load = announced + expert;
    for (std::int64_t r = 0; r < rank; ++r) place -= load[r * (shape.experts + 1)];
    return place < load[rank * (shape.experts + 1)];
  }
};

}  // namespace jevons
