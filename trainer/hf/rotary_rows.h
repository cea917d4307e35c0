// Rows of a projection that rotary positions turn in pairs: neighbours (2i, 2i + 1), or halves (i, i + n / 2)
// of n turned rows. A product of two vectors whose rows are moved alike is the same.
#pragma once

#include <cstdint>
#include <span>

namespace jevons {

struct RotaryRows {
  std::int64_t head = 0;    // rows of a head; 0: none of the matrix is turned
  std::int64_t turned = 0;  // the last ones of each head
};

// Where row `row` of the matrix whose pairs are neighbours stands in that whose pairs are halves.
std::int64_t row_among_halves(const RotaryRows& rows, std::int64_t row);

// A matrix (R, cols), row-major, whose pairs are halves: they become neighbours.
void make_neighbours(const RotaryRows& rows, std::int64_t cols, std::span<float> matrix);

}  // namespace jevons
