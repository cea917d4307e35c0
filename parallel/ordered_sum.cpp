#include "parallel/ordered_sum.h"

#include <algorithm>
#include <type_traits>

#include "kernels/core/error.h"

namespace jevons {

namespace {

// Elements summed at a time: their sums stay in the first-level cache while the parts stream by.
constexpr std::int64_t kBlock = 1024;

template <class T, class Combine>
void reduce(std::span<const void* const> parts, std::int64_t n, T* out, Combine combine) {
  using Sum = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
  Sum sums[kBlock];
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    const T* first = static_cast<const T*>(parts.front()) + begin;
    for (std::int64_t i = 0; i < count; ++i) sums[i] = static_cast<Sum>(first[i]);
    for (const void* part : parts.subspan(1)) {
      const T* values = static_cast<const T*>(part) + begin;
      for (std::int64_t i = 0; i < count; ++i) sums[i] = combine(sums[i], static_cast<Sum>(values[i]));
    }
    for (std::int64_t i = 0; i < count; ++i) out[begin + i] = static_cast<T>(sums[i]);
  }
}

template <class T>
void reduce(ReduceOp op, std::span<const void* const> parts, std::int64_t n, void* out) {
  T* const to = static_cast<T*>(out);
  switch (op) {
    case ReduceOp::kSum:
      return reduce(parts, n, to, [](auto a, auto b) { return a + b; });
    case ReduceOp::kMax:
      return reduce(parts, n, to, [](auto a, auto b) { return a < b ? b : a; });
    case ReduceOp::kMin:
      return reduce(parts, n, to, [](auto a, auto b) { return b < a ? b : a; });
  }
}

}  // namespace

void reduce_in_rank_order(ReduceOp op, DType dtype, std::span<const void* const> parts, std::int64_t n,
                          void* out) {
  switch (dtype) {
    case DType::kF32:
      return reduce<float>(op, parts, n, out);
    case DType::kBF16:
      return reduce<bf16>(op, parts, n, out);
    case DType::kF64:
      return reduce<double>(op, parts, n, out);
    case DType::kI32:
      return reduce<std::int32_t>(op, parts, n, out);
    case DType::kI64:
      return reduce<std::int64_t>(op, parts, n, out);
    case DType::kU8:
      break;
  }
  fail(ExitCode::kFailure, "cannot sum elements of type {}", name_of(dtype));
}

}  // namespace jevons
