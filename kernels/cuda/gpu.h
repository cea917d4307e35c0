// The language of device code, for .cu files only. nvcc compiles them for GPUs; a C++ compiler with
// gpu_emulation.h (tests/cuda_emulation) on its path compiles the same files for tests without one.
// docs/cuda.md has the rules.
//   GPU_SHARED(float, part, [32]);    a shared array (or variable) of the block, contents undefined
//   GPU_DYNAMIC_SHARED(int, counts);  a pointer to the shared memory that the launch asked for, 16-byte
//   aligned
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#ifdef __CUDACC__
#define GPU_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define GPU_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(gpu_dynamic_shared)
#else
#include "gpu_emulation.h"
#endif

namespace jevons::cuda {

void check(cudaError_t error, const char* call);

// Starts kernel(args...) on `stream`. A grid of no blocks is an error: callers return before. At most 48 KiB
// of shared memory; arguments are trivially copyable.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
#ifdef __CUDACC__
  kernel<<<grid, block, shared_bytes, stream>>>(
      static_cast<Parameters>(std::forward<Arguments>(arguments))...);
#else
  emulation::launch(kernel, grid, block, shared_bytes, stream,
                    static_cast<Parameters>(std::forward<Arguments>(arguments))...);
#endif
  check(cudaGetLastError(), "kernel launch");
}

}  // namespace jevons::cuda
