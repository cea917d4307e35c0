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
  std::size_t at(std::uint64_t row, std::uint64_t col) const {
    return col * static_cast<std::size_t>(ld) + row;
  }
  std::size_t bytes() const { return (at(rows - 1, cols - 1) + 1) * element_size(type); }
};
struct Task {
  bool transpose_a, transpose_b;
  Layout a, b, d;
  const void *pa, *pb, *pc;
  void* pd;
  double alpha, beta;
};

// T: what is summed.
template <class T>
void multiply(const Task& t) {
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

}  // namespace emulation
