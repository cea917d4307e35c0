// Sums over rows: each call adds up one run of rows in one block of columns, in row order. A facade that sums
// partial results goes over them once on the CPU, and several times, with short runs, on a GPU
// (kernels/column_sums.h).
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"

namespace jevons {

// Rows that are added before a sum goes back to memory.
inline constexpr std::int64_t kRowsAtOnce = 8;

// sums (batches, runs, cols) of x (batches, rows, cols), where run r has rows [r * run, (r + 1) * run).
template <class A>
struct ColumnSumsKernel {
  const A* x;
  A* sums;
  std::int64_t rows, cols, run;
  bool add;  // to what sums holds; else sums is assigned

  std::int64_t width() const { return kColumnBlock; }

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Quotient at = divide(index, blocks_of(cols, kColumnBlock));
    const Quotient place = divide(at.quotient, blocks_of(rows, run));  // batch, run
    const Block columns = block_at(at.remainder, cols, kColumnBlock);
    const Block block = block_at(place.remainder, rows, run);
    A* out = sums + at.quotient * cols + columns.begin;
    if (!add) group.each(columns.size, [out](std::int64_t i) { out[i] = 0; });
    const A* in = x + (place.quotient * rows + block.begin) * cols + columns.begin;
    std::int64_t row = 0;
    for (; row + kRowsAtOnce <= block.size; row += kRowsAtOnce)
      sum<kRowsAtOnce>(group, columns.size, in + row * cols, out);
    for (; row < block.size; ++row) sum<1>(group, columns.size, in + row * cols, out);
  }

 private:
  template <std::int64_t kRows, class Group>
  JEVONS_HD void sum(const Group& group, std::int64_t n, const A* in, A* out) const {
    group.each(n, [in, out, cols = cols](std::int64_t i) {
      A total = out[i];
      for (std::int64_t r = 0; r < kRows; ++r) total += in[r * cols + i];
      out[i] = total;
    });
  }
};

// y[col] += scale * sum over rows of x (rows, cols), all added in double; one call is a column.
template <class A>
struct AddColumnSumsKernel {
  const A* x;
  double* y;
  double scale;
  std::int64_t rows, cols;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t col) const {
    const double sum = group.sum(
        rows, [in = x + col, stride = cols](std::int64_t i) { return static_cast<double>(in[i * stride]); });
    group.once([&] { y[col] += scale * sum; });
  }
};

// y[col] = the larger of itself and the largest of x (rows, cols); one call is a column.
template <class A>
struct TakeColumnMaxKernel {
  const A* x;
  A* y;
  std::int64_t rows, cols;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t col) const {
    const A most = group.max(rows, [in = x + col, stride = cols](std::int64_t i) { return in[i * stride]; });
    group.once([&] { y[col] = most > y[col] ? most : y[col]; });
  }
};

}  // namespace jevons

#define JEVONS_REDUCE_KERNELS(X)                  \
  JEVONS_FOR_ACCUMULATORS(X, ColumnSumsKernel)    \
  X(ColumnSumsKernel<std::int64_t>)               \
  JEVONS_FOR_ACCUMULATORS(X, AddColumnSumsKernel) \
  JEVONS_FOR_ACCUMULATORS(X, TakeColumnMaxKernel)
