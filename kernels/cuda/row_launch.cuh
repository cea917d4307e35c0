// Runs a row kernel on a GPU: a warp a row if rows are short, less if they are very short, a block a row if
// they are long. Every .cu file of row kernels instantiates launch_rows, declared in kernels/row/launch.h,
// for the kernels of its family.
#pragma once

#include <cstdint>

#include "kernels/core/stream.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/row_group.cuh"

namespace jevons::cuda {

// Rows up to this many elements run on a warp: it does without barriers, and a block would leave threads
// idle.
inline constexpr std::int64_t kLongestWarpRow = 1024;
inline constexpr int kWarpsPerBlock = 4;
inline constexpr int kBlockThreads = 256;

// kShortRows of a kernel: its rows are often shorter than what a warp takes at once (heads, experts of a
// token), so that parts of a warp are worth their code.
template <class Kernel>
constexpr bool has_short_rows() {
  if constexpr (requires { Kernel::kShortRows; }) {
    return Kernel::kShortRows;
  } else {
    return false;
  }
}

template <class Kernel>
constexpr int pack_of() {
  if constexpr (requires { Kernel::kPack; }) {
    return Kernel::kPack;
  } else {
    return 1;
  }
}

// Blocks that a multiprocessor can hold at once at least; 0: as many as ptxas likes. kManyRegisters of a
// kernel: left to itself ptxas gives it fewer than the 64 registers that 1024 threads can have, and spills.
template <class Kernel>
constexpr int blocks_held(int block_threads) {
  if constexpr (requires { Kernel::kManyRegisters; }) {
    return Kernel::kManyRegisters ? 1024 / block_threads : 0;
  } else {
    return 0;
  }
}

template <int kThreads, int kRows, class Kernel>
__global__ void __launch_bounds__(kThreads* kRows, blocks_held<Kernel>(kThreads* kRows))
    row_kernel(const Kernel kernel, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / kThreads;
  if (row < rows) kernel(RowGroup<kThreads, pack_of<Kernel>()>{}, row);
}

template <int kThreads, int kRows, class Kernel>
void launch_rows_on(const Stream& stream, std::int64_t rows, const Kernel& kernel) {
  const auto blocks = static_cast<unsigned>((rows + kRows - 1) / kRows);
  launch(row_kernel<kThreads, kRows, Kernel>, dim3(blocks), dim3(kThreads * kRows), 0,
         static_cast<cudaStream_t>(stream.handle()), kernel, rows);
}

// Elements of the longest each, sum or max of one call: elements_per_row unless the kernel says otherwise.
template <class Kernel>
std::int64_t width_of(const Kernel& kernel, std::int64_t elements_per_row) {
  if constexpr (requires { kernel.width(); }) {
    return kernel.width();
  } else {
    return elements_per_row;
  }
}

template <class Kernel>
void launch_rows(const Stream& stream, std::int64_t rows, std::int64_t elements_per_row,
                 const Kernel& kernel) {
  const std::int64_t width = width_of(kernel, elements_per_row);
  if constexpr (has_short_rows<Kernel>()) {
    if (width <= 8 * pack_of<Kernel>()) return launch_rows_on<8, 4 * kWarpsPerBlock>(stream, rows, kernel);
    if (width <= 16 * pack_of<Kernel>()) return launch_rows_on<16, 2 * kWarpsPerBlock>(stream, rows, kernel);
  }
  if (width <= kLongestWarpRow) {
    launch_rows_on<kWarp, kWarpsPerBlock>(stream, rows, kernel);
  } else {
    launch_rows_on<kBlockThreads, 1>(stream, rows, kernel);
  }
}

}  // namespace jevons::cuda

#define JEVONS_LAUNCHER(...) \
  template void launch_rows(const Stream&, std::int64_t, std::int64_t, const __VA_ARGS__&);
