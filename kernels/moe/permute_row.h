// Movement and summation of rows by index.
#pragma once

#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

// y[r] = x[index[r]], 0 for -1; rows are moved as bytes.
struct GatherRowsKernel {
  static constexpr int kPack = kPackOf<std::uint8_t>;
  const std::uint8_t* x;
  const std::int32_t* index;
  std::uint8_t* y;
  std::int64_t row_bytes;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    std::uint8_t* out = y + row * row_bytes;
    if (index[row] < 0) return group.each(row_bytes, [out](auto i) { clear(out, i); });
    const std::uint8_t* in = x + index[row] * row_bytes;
    group.each(row_bytes, [in, out](auto i) { move(in, out, i); });
  }
};

// y[t] = sum of x[index[t, k]] over the slots k that are not -1, in slot order.
template <class T>
struct SumRowsKernel {
  using A = accumulator_t<T>;
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kMaxUnrolled = 8;

  const T* x;
  const std::int32_t* index;  // (rows, slots)
  T* y;
  std::int64_t cols, slots;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const std::int32_t* slot = index + row * slots;
    std::int64_t used = 0;
    for (std::int64_t k = 0; k < slots; ++k) used += slot[k] >= 0 ? 1 : 0;
    if (used <= kMaxUnrolled) {
      sum_of<kMaxUnrolled>(group, slot, used, y + row * cols);
    } else {
      sum_of_many(group, slot, y + row * cols);
    }
  }

 private:
  // The number of sources as a constant lets a compiler unroll the sum and make vector code of the columns.
  template <int N, class Group>
  JEVONS_HD void sum_of(const Group& group, const std::int32_t* slot, std::int64_t used, T* out) const {
    if constexpr (N > 0) {
      if (used < N) return sum_of<N - 1>(group, slot, used, out);
    }
    const T* in[N + 1];
    const bool gaps = used < slots;
    for (int k = 0; k < N; ++k, ++slot) {
      while (gaps && *slot < 0) ++slot;
      in[k] = x + *slot * cols;
    }
    group.each(cols, [in, out](auto i) {
      decltype(load(out, i)) sum(0);
      for (int k = 0; k < N; ++k) sum += load(in[k], i);
      store(out, i, sum);
    });
  }

  template <class Group>
  JEVONS_HD void sum_of_many(const Group& group, const std::int32_t* slot, T* out) const {
    group.each(cols, [x = x, cols = cols, slots = slots, slot, out](auto i) {
      decltype(load(out, i)) sum(0);
      for (std::int64_t k = 0; k < slots; ++k) {
        if (slot[k] >= 0) sum += load(x + slot[k] * cols, i);
      }
      store(out, i, sum);
    });
  }
};

}  // namespace jevons

#define JEVONS_PERMUTE_KERNELS(X) \
  X(GatherRowsKernel)             \
  JEVONS_FOR_FLOATS(X, SumRowsKernel)
