// Memory of the emulated GPU: one range of addresses, every allocation on pages of its own, with a page that
// nobody may touch behind it; but for mapped memory an address is never used twice. New memory is filled with
// 0xff: NaN in floats, -1 in integers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

inline constexpr std::size_t kDeviceAddresses = std::size_t{1} << 40;    // bytes of the range
inline constexpr std::size_t kMostDeviceMemory = std::size_t{16} << 30;  // bytes of a "GPU"

const char* device_base();
bool in_device_addresses(const void* p);

void* allocate_device(std::size_t bytes);  // null if it does not fit
// False if `memory` is not the start of an allocation.
bool free_device(void* memory);
// Of the memory pool (memory_pool.cpp): an address at once, contents in the order of streams. Operation
// `allocation` of a stream, which comes next, calls begin_pooled, the one that frees calls end_pooled;
// between release_pooled and that the memory is no argument of any call.
void* allocate_pooled(std::size_t bytes, std::uint32_t allocation);
std::size_t release_pooled(void* memory);  // its bytes; 0 if `memory` is not the start of an allocation
void begin_pooled(void* memory, std::size_t bytes);
void end_pooled(void* memory, std::size_t bytes);
// Of mapped_memory.cpp. Addresses without memory; those of the oldest range that was freed when no fresh ones
// are left, so that what still uses a freed range is found for long. Null if there are none.
void* reserve_range(std::size_t bytes);
bool free_range(void* range, std::size_t bytes);  // false: no such range, or there is memory in it
bool in_range(const void* p, std::size_t bytes);
// Memory behind them, from its first access right on to its end.
void open_mapped(void* memory, std::size_t bytes);
bool close_mapped(void* memory, std::size_t bytes);  // false if it was not opened as this
void* allocate_pinned(std::size_t bytes);
bool free_pinned(void* memory);

// Whether [p, p + bytes) lies in one allocation, or in mapped memory without gaps.
bool on_device(const void* p, std::size_t bytes);
bool in_pinned(const void* p, std::size_t bytes);
// Takes bytes of the GPU; false if it has not as many.
bool take_device_bytes(std::size_t bytes);
void return_device_bytes(std::size_t bytes);
std::size_t device_bytes_in_use();

// While one lives, "the GPU runs": device memory can be touched. Without one, and with Settings::guard, the
// host faults when it touches device memory.
class DeviceRuns {
 public:
  DeviceRuns();
  ~DeviceRuns();
  DeviceRuns(const DeviceRuns&) = delete;
  DeviceRuns& operator=(const DeviceRuns&) = delete;
};

}  // namespace emulation
