// Finds accesses of device code that are out of bounds, of freed or uninitialised memory, of host memory, or
// not ordered against another access: between threads of a block, between blocks, between streams. It does
// not depend on the order that ran. The compiler puts a call before every access (-fsanitize=thread);
// checker_callbacks.cpp answers these.
//
// Order within a kernel: same thread; or same block with a __syncthreads between; or a __syncwarp between of
// all of 8, 16 or 32 neighbouring lanes that hold both. Atomics do not race with each other. Between
// operations of streams: streams.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace emulation {

// __syncwarps that the running thread has passed together with its 8, 16 and 32 neighbours.
inline constexpr unsigned kNeighbours[] = {8, 16, 32};
using WarpSyncs = std::array<std::uint16_t, std::size(kNeighbours)>;

// Where device code stands; kept by the engine and the streams.
struct Position {
  std::uint32_t operation = 0;      // number in the list of streams.h
  std::uint32_t block = 0;          // linear index in the grid
  std::uint32_t barrier = 0;        // __syncthreads that the block has passed
  WarpSyncs warp_syncs[1024] = {};  // of each thread
  char* shared_memory = nullptr;    // the engine's shared memory, kMostSharedMemory bytes
};
inline constexpr std::size_t kMostSharedMemory = std::size_t{228} << 10;
extern constinit Position position;

bool checker_on();
// Called once, by the constructor that the compiler adds to a file with -fsanitize=thread.
void turn_checker_on();

// State of device memory. `allocation`: the stream operation that work with the memory must come behind; its
// contents are undefined.
inline constexpr std::uint32_t kAllocatedByHost = 1;
void note_allocation(const void* memory, std::size_t bytes, std::uint32_t allocation);
void note_free(const void* memory, std::size_t bytes);
void forget_shared_memory(std::size_t bytes_used);
void note_shared_memory(const void* memory, std::size_t bytes);

enum class Access : std::uint8_t { kRead, kWrite, kAtomic, kFree };
// An access of the running device thread; nothing in host code. `code`: the return address.
void check_access(const void* memory, std::size_t bytes, Access access, const void* code);
// An access of the running stream operation as a whole: copies, fills, library calls, frees.
void check_operation_access(const void* memory, std::size_t bytes, Access access);

// A pair of places is reported once; after this again.
void forget_reported_pairs();

}  // namespace emulation
