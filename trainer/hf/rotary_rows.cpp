#include "trainer/hf/rotary_rows.h"

#include <algorithm>
#include <vector>

namespace jevons {

std::int64_t row_among_halves(const RotaryRows& rows, std::int64_t row) {
  if (rows.head == 0) return row;
  const std::int64_t first = rows.head - rows.turned, in_head = row % rows.head;
  if (in_head < first) return row;
  const std::int64_t i = in_head - first;
  return row - i + i / 2 + i % 2 * (rows.turned / 2);
}

void make_neighbours(const RotaryRows& rows, std::int64_t cols, std::span<float> matrix) {
  if (rows.head == 0) return;
  const std::int64_t all = std::ssize(matrix) / cols;
  std::vector<float> halves(static_cast<std::size_t>(rows.turned * cols));
  for (std::int64_t first = rows.head - rows.turned; first < all; first += rows.head) {
    float* const turned = matrix.data() + first * cols;
    std::copy_n(turned, halves.size(), halves.data());
    for (std::int64_t i = 0; i < rows.turned; ++i) {
      const std::int64_t from = row_among_halves(rows, first + i) - first;
      std::copy_n(halves.data() + from * cols, cols, turned + i * cols);
    }
  }
}

}  // namespace jevons
