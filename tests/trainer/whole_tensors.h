// Tensors of a run put together from what its ranks hold, whatever their layout: from boxes_to_save.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons::test {

using WholeTensors = std::map<std::string, std::vector<float>>;

// A rank's part of an f32 or bf16 tensor of at most two dims. It can travel between processes
// (support/packed.h).
struct Piece {
  std::string name;
  std::int64_t numel = 0, cols = 0;  // of the whole tensor
  std::int64_t row = 0, col = 0, my_cols = 0;
  std::vector<float> values;
  auto fields() { return std::tie(name, numel, cols, row, col, my_cols, values); }
};

inline std::vector<Piece> pieces_of(const std::vector<TensorBox>& boxes) {
  std::vector<Piece> pieces;
  for (const TensorBox& box : boxes) {
    std::vector<float> values;
    if (box.local.dtype == DType::kBF16) {
      for (const bf16 value : box.local.span<bf16>()) values.push_back(static_cast<float>(value));
    } else {
      std::ranges::copy(box.local.span<float>(), std::back_inserter(values));
    }
    pieces.push_back({.name = box.name,
                      .numel = box.global_shape.numel(),
                      .cols = box.global_shape[box.global_shape.ndim() - 1],
                      .row = box.global_shape.ndim() == 2 ? box.offset[0] : 0,
                      .col = box.offset.back(),
                      .my_cols = box.local.cols(),
                      .values = std::move(values)});
  }
  return pieces;
}

inline void place(const std::vector<Piece>& pieces, WholeTensors& whole) {
  for (const Piece& piece : pieces) {
    std::vector<float>& global = whole[piece.name];
    global.resize(static_cast<std::size_t>(piece.numel));
    for (std::int64_t i = 0; i < std::ssize(piece.values); ++i) {
      const std::int64_t at = (piece.row + i / piece.my_cols) * piece.cols + piece.col + i % piece.my_cols;
      global[static_cast<std::size_t>(at)] = piece.values[static_cast<std::size_t>(i)];
    }
  }
}

}  // namespace jevons::test
