// Files from which weights are read: tensors by name, of which every rank takes its parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"

namespace jevons {

// A box of a global tensor that this rank holds, contiguous in memory. Rank-equal tensors are listed by one
// rank only.
struct TensorBox {
  std::string name;  // "layers.0.attn.q", "optim.m.layers.0.attn.q"
  Shape global_shape;
  std::vector<std::int64_t> offset;  // per dim, in the global tensor
  Tensor local;                      // its shape is the box's extent
};

// Splits elements [begin, end) of a row-major local box at `box_offset` of a global tensor into at most three
// boxes (2-D: partial first row, whole rows, partial last row). `flat` points at element `begin`.
std::vector<TensorBox> boxes_of_flat_range(const std::string& name, Shape global_shape,
                                           std::vector<std::int64_t> box_offset, Shape box_shape,
                                           std::int64_t begin, Tensor flat);

struct TensorEntry {
  std::string name;
  Shape shape;
  DType dtype;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::vector<TensorEntry>& tensors() const = 0;
  virtual bool has(const std::string& name) const = 0;
  // Fills every box, in host memory, from what is stored; shapes and dtypes must match. Throws Error(kData)
  // naming file, tensor and what is wrong; then the contents of `boxes` are undefined. Not collective.
  virtual void read(const std::vector<TensorBox>& boxes) const = 0;
};

}  // namespace jevons
