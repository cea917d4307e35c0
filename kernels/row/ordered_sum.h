// Elements of several parts combined in the order of the parts.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/ordered_sum.h"
#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

// Elements of one call.
inline constexpr std::int64_t kOrderedSumBlock = 1024;

// The address of each part: in a table, or at equal distances.
template <class T>
struct PartAddresses {
  const void* const* table = nullptr;
  const T* first = nullptr;
  std::int64_t stride = 0;

  JEVONS_HD const T* operator[](std::int64_t part) const {
    return table == nullptr ? first + part * stride : static_cast<const T*>(table[part]);
  }
};

// One call combines one block of elements, in the type that sums of T are kept in. out may be one of the
// parts.
template <class T>
struct OrderedSumKernel {
  using A = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  PartAddresses<T> parts;
  std::int64_t count, n;
  ReduceOp op;
  T* out;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, n, kOrderedSumBlock);
    switch (op) {
      case ReduceOp::kSum:
        return combine(group, block, [](A a, A b) { return a + b; });
      case ReduceOp::kMax:
        return combine(group, block, [](A a, A b) { return a < b ? b : a; });
      case ReduceOp::kMin:
        return combine(group, block, [](A a, A b) { return b < a ? b : a; });
    }
  }

 private:
  template <class Group, class Join>
  JEVONS_HD void combine(const Group& group, const Block& block, Join join) const {
    group.in_order(
        block.size, count,
        [parts = parts, begin = block.begin](std::int64_t part, std::int64_t i) {
          return convert<A>(parts[part][begin + i]);
        },
        join, [out = out + block.begin](std::int64_t i, A value) { out[i] = convert<T>(value); });
  }
};

}  // namespace jevons

#define JEVONS_ORDERED_SUM_KERNELS(X)    \
  JEVONS_FOR_FLOATS(X, OrderedSumKernel) \
  X(OrderedSumKernel<std::int32_t>)      \
  X(OrderedSumKernel<std::int64_t>)
