#include "parallel/slot_sum.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

std::int64_t first_slot(SlotNode node) {
  return node.index << node.level;
}

SlotNode parent_of(SlotNode node) {
  return {node.level + 1, node.index / 2};
}

void append_nodes(SlotNode node, std::int64_t begin, std::int64_t end, std::int64_t slots,
                  std::vector<SlotNode>& nodes) {
  const std::int64_t first = first_slot(node),
                     last = std::min(first + (std::int64_t{1} << node.level), slots);
  if (first >= last || last <= begin || end <= first) return;
  if (begin <= first && last <= end) {
    nodes.push_back(node);
    return;
  }
  append_nodes({node.level - 1, 2 * node.index}, begin, end, slots, nodes);
  append_nodes({node.level - 1, 2 * node.index + 1}, begin, end, slots, nodes);
}

}  // namespace

SlotNode root_of(std::int64_t slots) {
  return {static_cast<int>(std::bit_width(static_cast<std::uint64_t>(slots - 1))), 0};
}

std::vector<SlotNode> nodes_of(std::int64_t begin, std::int64_t end, std::int64_t slots) {
  std::vector<SlotNode> nodes;
  append_nodes(root_of(slots), begin, end, slots, nodes);
  return nodes;
}

void SlotSum::put(const Context& ctx, std::int64_t slots, SlotNode node, Tensor value) {
  ENSURE(value.numel() == numel_ && value.dtype == dtype_, "a slot's gradient is {}, wanted {} {}",
         value.to_string(), numel_, name_of(dtype_));
  const SlotNode root = root_of(slots);
  std::optional<Tensor> kept;  // where the value lies when it is ours
  while (node != root) {
    const SlotNode sibling{node.level, node.index ^ 1};
    if (first_slot(sibling) < slots) {
      const auto found = std::ranges::find_if(held_, [&](const Held& held) { return held.node == sibling; });
      if (found == held_.end()) break;
      add(ctx, found->value, kept.value_or(value), found->value);
      if (kept) free_.push_back(*kept);
      kept = found->value;
      held_.erase(found);
    }
    node = parent_of(node);
  }
  if (!kept) {
    kept = take_memory();
    copy(ctx, value, *kept);
  }
  held_.push_back({node, *kept});
}

Tensor SlotSum::value(SlotNode node) const {
  for (const Held& held : held_) {
    if (held.node == node) return held.value;
  }
  fail(ExitCode::kFailure, "the sum over slots {} to {} is not complete", first_slot(node),
       first_slot({node.level, node.index + 1}) - 1);
}

void SlotSum::clear() {
  for (const Held& held : held_) free_.push_back(held.value);
  held_.clear();
}

std::size_t SlotSum::bytes() const {
  std::size_t sum = 0;
  for (const Buffer& buffer : buffers_) sum += buffer.bytes();
  return sum;
}

Tensor SlotSum::take_memory() {
  if (free_.empty()) {
    const std::size_t bytes = static_cast<std::size_t>(numel_) * size_of(dtype_);
    buffers_.emplace_back(device_, bytes, Contents::kUndefined);
    return buffers_.back().view(0, {numel_}, dtype_);
  }
  const Tensor memory = free_.back();
  free_.pop_back();
  return memory;
}

}  // namespace jevons
