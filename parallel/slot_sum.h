// Sum of one gradient over the slots of a step (a slot is one sequence of the global batch), added in a
// fixed binary tree over the slots' numbers. Whoever computed which slot, and in which order the values come,
// the sum has the same bits (derivation: docs/numerics.md).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/context.h"

namespace jevons {

// Covers those of the slots [index * 2^level, (index + 1) * 2^level) that exist. Its value is that of its
// left half plus that of its right half; where no slot of the right half exists, that of the left half.
struct SlotNode {
  int level = 0;
  std::int64_t index = 0;
  bool operator==(const SlotNode&) const = default;
};

// The node of all slots.
SlotNode root_of(std::int64_t slots);
// The fewest nodes that together cover [begin, end), from left to right.
std::vector<SlotNode> nodes_of(std::int64_t begin, std::int64_t end, std::int64_t slots);

class SlotSum {
 public:
  SlotSum(Device device, std::int64_t numel, DType dtype) : device_(device), numel_(numel), dtype_(dtype) {}

  // Adds a copy of `value` (numel) as that of `node` in a step of `slots` slots. Two nodes whose values are
  // here become their parent at once: at most about log2(slots) values are kept for each run of slots.
  void put(const Context& ctx, std::int64_t slots, SlotNode node, Tensor value);
  // Value of a node that nothing was added to yet; throws if it is not there.
  Tensor value(SlotNode node) const;
  // Forgets all values, keeps their memory.
  void clear();
  std::size_t bytes() const;

 private:
  struct Held {
    SlotNode node;
    Tensor value;
  };
  Tensor take_memory();

  Device device_;
  std::int64_t numel_;
  DType dtype_;
  std::vector<Held> held_;
  std::vector<Tensor> free_;
  std::vector<Buffer> buffers_;
};

}  // namespace jevons
