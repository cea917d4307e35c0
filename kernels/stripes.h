// Sequences cut in stripes of neighbouring positions that are dealt out to parts like cards: part c gets the
// stripes c, c + parts, ... of every sequence. With causal attention all parts then have nearly the same to
// do, whatever documents the sequences hold.
#pragma once

#include "kernels/core/context.h"
#include "kernels/positions.h"

namespace jevons {

struct Stripes {
  std::int64_t length = 0;  // of a sequence
  std::int64_t parts = 1;
  std::int64_t run = 1;  // positions of a stripe; parts * run divides length

  std::int64_t local_length() const { return length / parts; }  // of a sequence, in one part
  Positions of(std::int64_t part) const { return {part * run, run, parts * run}; }
};

// For T rows of whole sequences: dealt (T) i32: the row that stands at each place once they are dealt, the
// parts one behind another and in each the sequences one behind another; joined (T) i32: the place of each
// row.
void stripe_order(const Context&, const Stripes&, Tensor dealt, Tensor joined);

}  // namespace jevons
