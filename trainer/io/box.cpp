#include "trainer/io/box.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "trainer/io/tensor_source.h"

namespace jevons {
namespace {

// Index of an element, given by its global coordinates, in a row-major box.
std::int64_t flat_index(const Box& box, std::span<const std::int64_t> at) {
  std::int64_t index = 0;
  for (std::size_t d = 0; d < at.size(); ++d) index = index * box.extent[d] + (at[d] - box.offset[d]);
  return index;
}

// Elements [begin, end) of a flat tensor under another shape.
Tensor flat_part(Tensor flat, std::int64_t begin, std::int64_t end, Shape shape) {
  return flat.slice(begin, end).reshape(shape);
}

}  // namespace

std::int64_t Box::volume() const {
  std::int64_t product = 1;
  for (std::int64_t e : extent) product *= e;
  return product;
}

std::string Box::to_string() const {
  std::string text = "[";
  for (std::size_t d = 0; d < offset.size(); ++d) {
    text += fmt::format("{}{}:{}", d == 0 ? "" : ", ", offset[d], offset[d] + extent[d]);
  }
  return text + "]";
}

std::optional<std::int64_t> checked_numel(std::span<const std::int64_t> dims) {
  std::int64_t product = 1;
  for (std::int64_t d : dims) {
    if (d < 0 || __builtin_mul_overflow(product, d, &product)) return std::nullopt;
  }
  return product;
}

bool inside(const Box& box, const Shape& shape) {
  const auto ndim = static_cast<std::size_t>(shape.ndim());
  if (box.offset.size() != ndim || box.extent.size() != ndim) return false;
  for (std::size_t d = 0; d < ndim; ++d) {
    const std::int64_t dim = shape.dims()[d];
    if (box.offset[d] < 0 || box.offset[d] > dim) return false;
    if (box.extent[d] < 0 || box.extent[d] > dim - box.offset[d]) return false;
  }
  return true;
}

std::optional<Box> intersect(const Box& a, const Box& b) {
  Box common;
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    const std::int64_t begin = std::max(a.offset[d], b.offset[d]);
    const std::int64_t end = std::min(a.offset[d] + a.extent[d], b.offset[d] + b.extent[d]);
    if (begin >= end) return std::nullopt;
    common.offset.push_back(begin);
    common.extent.push_back(end - begin);
  }
  return common;
}

// With the boxes sorted by their begin in dim 0, only those that begin before one ends can overlap it.
std::string tiling_problem(const Shape& shape, std::vector<Box> boxes) {
  std::sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.offset < b.offset; });
  std::int64_t covered = 0;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const std::int64_t end = boxes[i].offset[0] + boxes[i].extent[0];
    for (std::size_t j = i + 1; j < boxes.size() && boxes[j].offset[0] < end; ++j) {
      if (intersect(boxes[i], boxes[j])) {
        return fmt::format("boxes {} and {} overlap", boxes[i].to_string(), boxes[j].to_string());
      }
    }
    covered += boxes[i].volume();
  }
  if (covered == shape.numel()) return {};
  return fmt::format("boxes are missing: they cover {} of {} elements", covered, shape.numel());
}

void append_copy_runs(const Box& from, const Box& to, std::vector<CopyRun>& runs) {
  const std::optional<Box> common = intersect(from, to);
  if (!common) return;
  // Dims [0, outer) are walked; the dims after them are one run, because both boxes hold them whole.
  std::size_t outer = common->extent.size() - 1;
  std::int64_t count = common->extent[outer];
  while (outer > 0 && common->extent[outer] == from.extent[outer] &&
         common->extent[outer] == to.extent[outer]) {
    count *= common->extent[--outer];
  }
  std::vector<std::int64_t> at = common->offset;
  while (true) {
    runs.push_back({flat_index(from, at), flat_index(to, at), count});
    std::size_t d = outer;
    while (d > 0 && ++at[d - 1] == common->offset[d - 1] + common->extent[d - 1]) {
      at[d - 1] = common->offset[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

std::vector<TensorBox> boxes_of_flat_range(const std::string& name, Shape global_shape,
                                           std::vector<std::int64_t> box_offset, Shape box_shape,
                                           std::int64_t begin, Tensor flat) {
  const std::int64_t count = flat.numel();
  ENSURE(box_shape.ndim() == 1 || box_shape.ndim() == 2, "{}: a flat range of {}", name,
         box_shape.to_string());
  ENSURE(begin >= 0 && begin + count <= box_shape.numel(), "{}: elements [{}, {}) of {}", name, begin,
         begin + count, box_shape.to_string());
  std::vector<TensorBox> boxes;
  if (count == 0) return boxes;
  if (box_shape.ndim() == 1) {
    boxes.push_back({name, global_shape, {box_offset[0] + begin}, flat});
    return boxes;
  }
  const std::int64_t cols = box_shape[1];
  // Rows [row, row + rows) by columns [col, col + width), which begin at element `done` of flat.
  std::int64_t done = 0;
  const auto add = [&](std::int64_t rows, std::int64_t width) {
    const std::int64_t row = (begin + done) / cols, col = (begin + done) % cols;
    boxes.push_back({name,
                     global_shape,
                     {box_offset[0] + row, box_offset[1] + col},
                     flat_part(flat, done, done + rows * width, {rows, width})});
    done += rows * width;
  };
  if (const std::int64_t col = begin % cols; col != 0) add(1, std::min(count, cols - col));
  if (const std::int64_t rows = (count - done) / cols; rows > 0) add(rows, cols);
  if (done < count) add(1, count - done);
  return boxes;
}

}  // namespace jevons
