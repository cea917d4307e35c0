// For the list at the foot of a file of row kernels: every kernel that a facade launches. A device back end
// compiles its launcher for each, in kernels/cuda/row_<family>.cu and kernels/no_cuda/rows.cpp:
//   #define LAUNCHER(...) template void launch_rows(..., const __VA_ARGS__&);
//   JEVONS_NORM_KERNELS(LAUNCHER)
// A kernel that is missing from its list does not link.
#pragma once

#define JEVONS_FOR_FLOATS(X, Kernel) X(Kernel<float>) X(Kernel<bf16>) X(Kernel<double>)
#define JEVONS_FOR_ACCUMULATORS(X, Kernel) X(Kernel<float>) X(Kernel<double>)
// clang-format off
#define JEVONS_FOR_FLOAT_PAIRS(X, Kernel)                                     \
  X(Kernel<float, float>)  X(Kernel<float, bf16>)  X(Kernel<float, double>)   \
  X(Kernel<bf16, float>)   X(Kernel<bf16, bf16>)   X(Kernel<bf16, double>)    \
  X(Kernel<double, float>) X(Kernel<double, bf16>) X(Kernel<double, double>)
// clang-format on
// Accumulator and working weight.
#define JEVONS_FOR_WEIGHTS(X, Kernel) X(Kernel<float, float>) X(Kernel<float, bf16>) X(Kernel<double, double>)
