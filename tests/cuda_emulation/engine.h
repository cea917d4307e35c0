// Runs launches on the host: blocks one after another, a fiber per thread. A thread runs until it waits at a
// barrier or a warp operation, so races do not show as interleavings; the checker finds them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device_language.h"
#include "warp_functions.h"

namespace emulation {

// A kernel with a copy of its arguments.
struct Kernel {
  void (*invoke)(void*);
  std::vector<char> arguments;
};
inline constexpr std::size_t kMostArgumentBytes = 4096;

// Runs every block of the grid; returns what went wrong, or nothing.
std::string run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const Kernel& kernel);
void seed_engine(std::uint64_t seed);

// For the checker: the running device thread.
unsigned running_thread_number();
bool on_stack_of_running_thread(const void* p);
bool in_thread_views(const void* p);

}  // namespace emulation
