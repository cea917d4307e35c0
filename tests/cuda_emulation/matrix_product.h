// What the stand-in of cuBLASLt computes: D = alpha op(A) op(B) + beta C, matrices by columns, in
// plain loops in the order of k.
#pragma once

#include <library_types.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/cuda_emulation/elements.h"

namespace emulation {

struct Layout {
  cudaDataType_t type;
  std::uint64_t rows, cols;
  std::int64_t ld;
  std::int32_t count = 1;  // of matrices, `step` elements apart
  std::int64_t step = 0;
  std::size_t at(std::uint64_t row, std::uint64_t col) const {
    return col * static_cast<std::size_t>(ld) + row;
  }
  std::size_t start_of(std::int32_t matrix) const {  // bytes
    return static_cast<std::size_t>(matrix * step) * element_size(type);
  }
  // From the first element of the first matrix to the last of the last.
  std::size_t bytes() const {
    return start_of(count - 1) + (at(rows - 1, cols - 1) + 1) * element_size(type);
  }
};
struct Task {
  bool transpose_a, transpose_b;
  Layout a, b, d;
  const void *pa, *pb, *pc;
  void* pd;
  double alpha, beta;
};

// One of the products of a batch. T: what is summed.
template <class T>
void multiply_one(const Task& t) {
  const std::uint64_t m = t.d.rows, n = t.d.cols, k = t.transpose_a ? t.a.rows : t.a.cols;
  std::vector<T> a(m * k), sum(m);  // op(A) by columns
  for (std::uint64_t row = 0; row < m; ++row) {
    for (std::uint64_t i = 0; i < k; ++i)
      a[i * m + row] =
          static_cast<T>(load_element(t.pa, t.a.type, t.transpose_a ? t.a.at(i, row) : t.a.at(row, i)));
  }
  for (std::uint64_t col = 0; col < n; ++col) {
    std::fill(sum.begin(), sum.end(), T{0});
    for (std::uint64_t i = 0; i < k; ++i) {
      const T b =
          static_cast<T>(load_element(t.pb, t.b.type, t.transpose_b ? t.b.at(col, i) : t.b.at(i, col)));
      for (std::uint64_t row = 0; row < m; ++row) sum[row] += a[i * m + row] * b;
    }
    for (std::uint64_t row = 0; row < m; ++row) {
      T value = static_cast<T>(t.alpha) * sum[row];
      if (t.beta != 0)
        value += static_cast<T>(t.beta) * static_cast<T>(load_element(t.pc, t.d.type, t.d.at(row, col)));
      store_element(t.pd, t.d.type, t.d.at(row, col), static_cast<double>(value));
    }
  }
}

template <class T>
void multiply(const Task& t) {
  const auto matrix = [](const void* first, const Layout& layout, std::int32_t i) {
    return static_cast<const char*>(first) + layout.start_of(i);
  };
  for (std::int32_t i = 0; i < t.d.count; ++i) {
    Task one = t;
    one.pa = matrix(t.pa, t.a, i), one.pb = matrix(t.pb, t.b, i);
    one.pc = matrix(t.pc, t.d, i), one.pd = static_cast<char*>(t.pd) + t.d.start_of(i);
    multiply_one<T>(one);
  }
}

}  // namespace emulation
