// Received notes that are not what their ranks announced. Kernels run in the order in which they stand here,
// after those of kernels/row/slot_rows.h.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/row/slot_rows.h"

namespace jevons {

// The first note of each block that is not what its rank announced.
struct MisfitsKernel {
  IncomingShape shape;
  const std::int64_t* announced;
  const Source* sources;
  const std::int32_t* notes;
  const std::int32_t* begins;
  const std::int32_t* wire_to_row;
  std::int64_t* misfits;  // (blocks): wire position + 1, or 0

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t block) const {
    const Block wires = block_at(block, shape.wires, kSlotBlock);
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    const double first = group.max(wires.size, [*this, wires](std::int64_t i) -> double {
      return fits(wires.begin + i) ? kNone : -static_cast<double>(wires.begin + i);
    });
    group.once([&] { misfits[block] = first == kNone ? 0 : static_cast<std::int64_t>(-first) + 1; });
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
    const std::int64_t first = shape.room.fixed()
                                   ? (expert * shape.ranks + rank) * shape.room.capacity
                                   : begins[expert] + from_earlier(shape, announced, rank, expert);
    return row - first < announced[rank * (shape.experts + 1) + expert];
  }
};

// One call: the first misfit of all blocks.
struct FirstMisfitKernel {
  IncomingShape shape;
  const Source* sources;
  const std::int32_t* notes;
  const std::int64_t* misfits;  // (blocks)
  std::int64_t* misfit;         // (4)

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t) const {
    constexpr double kNone = -std::numeric_limits<double>::infinity();
    const double first = group.max(shape.blocks(), [m = misfits](std::int64_t block) -> double {
      return m[block] == 0 ? kNone : -static_cast<double>(m[block]);
    });
    group.once([&] {
      const bool none = first == kNone;
      const std::int64_t wire = none ? 0 : static_cast<std::int64_t>(-first) - 1;
      misfit[0] = none ? 0 : wire + 1;
      misfit[1] = none ? 0 : shape.source_of_slot(sources, wire);
      misfit[2] = none ? 0 : notes[2 * wire];
      misfit[3] = none ? 0 : notes[2 * wire + 1];
    });
  }
};

}  // namespace jevons
