// Kernels, threads, shared memory and barriers of CUDA, on the host: every thread of a block is a fiber
// (engine.h). Shared memory is declared with GPU_SHARED, since a C++ compiler would take __shared__ arrays
// for private ones.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __shared__
#define __shared__ use_the_GPU_SHARED_macro_instead
#define GPU_SHARED(T, name, ...)                                   \
  static char name##_key;                                          \
  auto& name = *static_cast<std::type_identity_t<T __VA_ARGS__>*>( \
      ::emulation::shared_variable(&name##_key, sizeof(T __VA_ARGS__), alignof(T)))
#define GPU_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::emulation::dynamic_shared())

#define threadIdx (::emulation::thread_view->index)
#define blockIdx (::emulation::block_view.index)
#define blockDim (::emulation::block_view.threads)
#define gridDim (::emulation::block_view.grid)

namespace emulation {

// What the built-in variables of the running thread read. Null in host code.
struct ThreadView {
  uint3 index;
  unsigned lane;
};
struct BlockView {
  uint3 index;
  dim3 threads, grid;
};
extern constinit ThreadView* thread_view;
extern constinit BlockView block_view;

// A line of device code: the caller's, as a default argument.
struct Place {
  const char* file = "";
  int line = 0;
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Place& other) const {
    return line == other.line && std::strcmp(file, other.file) == 0;
  }
};

void block_barrier(Place place);
void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared();

// A launch as the runtime sees it: `invoke(arguments)` is one thread of the kernel.
struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  void (*invoke)(void*);
  const void* arguments;
  std::size_t argument_bytes;
};
void enqueue_kernel(const Launch& launch, cudaStream_t stream, const void* const* pointers,
                    std::size_t num_pointers);

// Pointers among the parameters must be device memory or null; pointers inside structs are seen by the
// checker alone.
template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            P... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters are copied byte by byte");
  using Call = std::tuple<void (*)(P...), P...>;
  const Call call(kernel, arguments...);
  std::array<const void*, sizeof...(P) + 1> pointers{};
  std::size_t n = 0;
  [[maybe_unused]] const auto note = [&](const auto& argument) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(argument)>>) pointers[n++] = argument;
  };
  (note(arguments), ...);
  const auto invoke = [](void* p) {
    std::apply([](auto function, auto... values) { function(values...); }, *static_cast<Call*>(p));
  };
  enqueue_kernel({grid, block, shared_bytes, invoke, &call, sizeof call}, stream, pointers.data(), n);
}

}  // namespace emulation

inline constexpr int warpSize = 32;

inline void __syncthreads(emulation::Place place = emulation::Place::here()) {
  emulation::block_barrier(place);
}
