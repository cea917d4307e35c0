// Geometry of boxes: axis-aligned, half-open ranges of a global row-major tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"

namespace jevons {

struct Box {
  std::vector<std::int64_t> offset;  // per dim, in the global tensor
  std::vector<std::int64_t> extent;  // per dim

  std::int64_t volume() const;    // elements; the box must lie inside a shape that checked_numel accepts
  std::string to_string() const;  // "[0:2, 4:8]"
  bool operator==(const Box&) const = default;
};

// Product of dims, 1 for none; nothing when a dim is negative or the product does not fit 63 bits.
std::optional<std::int64_t> checked_numel(std::span<const std::int64_t> dims);

// Whether every dim of `box` lies inside `shape`. Safe for any values.
bool inside(const Box& box, const Shape& shape);

// The common part, or nothing when it is empty.
std::optional<Box> intersect(const Box& a, const Box& b);

// Empty when the boxes (all inside `shape`, none empty) cover every element exactly once, else what is wrong.
std::string tiling_problem(const Shape& shape, std::vector<Box> boxes);

// `count` consecutive elements from element `from` of one box to element `to` of another.
struct CopyRun {
  std::int64_t from = 0;
  std::int64_t to = 0;
  std::int64_t count = 0;
};
// Appends the runs that carry the common part of two row-major boxes, ascending in both, as long as possible.
void append_copy_runs(const Box& from, const Box& to, std::vector<CopyRun>& runs);

}  // namespace jevons
