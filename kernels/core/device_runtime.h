// What kernels/core asks of a GPU back end: memory, streams and events, as plain functions over opaque
// handles. kernels/cuda defines them with the CUDA runtime, kernels/no_cuda by failing; the executable links
// one of the two. Use Buffer, Stream and Event, and
// kernels/core/device.h, instead; only they call this. Failures throw Error(kFailure)
// and name the CUDA error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jevons {
enum class StreamPriority : std::uint8_t;
}

namespace jevons::cuda {

// Throws device::OutOfMemory: `bytes` are not to be had; says what is free.
[[noreturn]] void fail_for_memory(std::size_t bytes);

// Device memory with undefined contents; never null. What fails for want of memory is tried once more when
// the pool's unused memory is given back. Throws
// device::OutOfMemory.
void* allocate(std::size_t bytes);
void deallocate(void* memory) noexcept;
// The same from the GPU's memory pool, live between the two calls' places in their stream: neither waits for
// anything. The pool keeps what it has once taken from the GPU, until allocate() or map_memory() fails.
void* allocate_async(void* stream, std::size_t bytes);
void deallocate_async(void* stream, void* memory) noexcept;
// Ranges of addresses of the selected GPU, without memory at first. Memory comes in multiples of
// mapping_granularity() bytes, 0 where the driver cannot do this.
std::size_t mapping_granularity();
void* reserve_addresses(std::size_t bytes);  // null if there are not as many
// Puts memory behind [at, at + bytes) of a range, for all streams. Waits for nothing that is under way. False
// if the GPU has not as much.
bool map_memory(void* at, std::size_t bytes);
// Waits for the stream, then takes range and memory away. pieces: bytes of each map_memory, from the start of
// the range on without gaps.
void release_addresses(void* stream, void* range, std::size_t bytes,
                       std::span<const std::size_t> pieces) noexcept;
// Page-locked host memory, which copies to and from the device need to run beside other work.
void* allocate_pinned(std::size_t bytes);
void deallocate_pinned(void* memory) noexcept;

// Streams run beside each other; none waits for the default stream. Events do not measure time.
void* create_stream(StreamPriority priority);
void destroy_stream(void* stream) noexcept;
void synchronise_stream(void* stream);
bool is_idle(void* stream);  // all work given so far is done
void* create_event();
void destroy_event(void* event) noexcept;
void record_event(void* event, void* stream);
void wait_event(void* stream, void* event);
void synchronise_event(void* event);

// Named stretches of the calling thread's work, for a profiler (kernels/core/profile_range.h).
void begin_range(const char* name) noexcept;
void end_range() noexcept;

enum class CopyKind : std::uint8_t { kHostToDevice, kDeviceToHost, kDeviceToDevice };
// Both in stream order. The host side of a copy must be page-locked.
void copy_async(void* stream, void* to, const void* from, std::size_t bytes, CopyKind kind);
void fill_async(void* stream, void* memory, std::uint8_t value, std::size_t bytes);

}  // namespace jevons::cuda
