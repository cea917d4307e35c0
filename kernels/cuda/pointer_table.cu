#include "kernels/cuda/pointer_table.h"

#include <algorithm>

#include "kernels/cuda/gpu.h"

namespace jevons::cuda {
namespace {

constexpr int kThreads = 256;

struct Pointers {
  const void* at[kThreads];
};

__global__ void write_pointers_kernel(const __grid_constant__ Pointers pointers, int count,
                                      const void** table) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) table[i] = pointers.at[i];
}

}  // namespace

void write_pointers(const Stream& stream, std::span<const void* const> pointers, const void** table) {
  for (std::size_t begin = 0; begin < pointers.size(); begin += kThreads) {
    const auto part = pointers.subspan(begin, std::min<std::size_t>(kThreads, pointers.size() - begin));
    Pointers parameters{};
    std::copy(part.begin(), part.end(), parameters.at);
    launch(write_pointers_kernel, dim3(1), dim3(kThreads), 0, static_cast<cudaStream_t>(stream.handle()),
           parameters, static_cast<int>(part.size()), table + begin);
  }
}

}  // namespace jevons::cuda
