#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "checker.h"
#include "control.h"

namespace emulation {
namespace {

constexpr std::size_t kPage = 4096;
using Allocations = std::map<const char*, std::size_t>;  // start and bytes

char* base = nullptr;
std::size_t reserved = 0;  // bytes of the range given out so far
std::size_t in_use = 0;
std::int64_t allocations = 0;
int running = 0;
Allocations device, pooled, pinned;

bool within(const Allocations& allocations, const void* p, std::size_t bytes) {
  const char* begin = static_cast<const char*>(p);
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return false;
  const auto& [start, size] = *--next;
  return begin + bytes <= start + size;
}

// Adds an allocation on fresh pages; null if no addresses are left.
void* add(Allocations& list, std::size_t bytes) {
  device_base();
  const std::size_t pages = (bytes + kPage - 1) / kPage * kPage;
  if (pages + kPage > kDeviceAddresses - reserved) return nullptr;
  ++allocations;
  char* memory = base + reserved;
  reserved += pages + kPage;
  list[memory] = bytes;
  return memory;
}

// The bytes of what is no longer an allocation; 0 if it was none.
std::size_t remove(Allocations& list, void* memory) {
  const auto node = list.extract(static_cast<const char*>(memory));
  return node.empty() ? 0 : node.mapped();
}

void protect(char* memory, std::size_t bytes, bool open) {
  mprotect(memory, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace

const char* device_base() {
  if (base == nullptr) {
    void* memory =
        mmap(nullptr, kDeviceAddresses, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    base = static_cast<char*>(memory);
    reserved = kPage;
  }
  return base;
}

bool in_device_addresses(const void* p) {
  const char* address = static_cast<const char*>(p);
  return base != nullptr && address >= base && address < base + kDeviceAddresses;
}

void* allocate_device(std::size_t bytes) {
  if (!take_device_bytes(bytes)) return nullptr;
  void* const memory = add(device, bytes);
  if (memory == nullptr) {
    return_device_bytes(bytes);
    return nullptr;
  }
  const DeviceRuns scope;
  std::memset(memory, 0xff, bytes);
  note_allocation(memory, bytes, kAllocatedByHost);
  return memory;
}

bool free_device(void* memory) {
  const std::size_t bytes = remove(device, memory);
  if (bytes == 0) return false;
  note_free(memory, bytes);
  return_device_bytes(bytes);
  madvise(memory, bytes, MADV_DONTNEED);
  return true;
}

void* allocate_pooled(std::size_t bytes, std::uint32_t allocation) {
  void* const memory = add(pooled, bytes);
  if (memory != nullptr) note_allocation(memory, bytes, allocation);
  return memory;
}

std::size_t release_pooled(void* memory) {
  return remove(pooled, memory);
}

void begin_pooled(void* memory, std::size_t bytes) {
  std::memset(memory, 0xff, bytes);
}

void end_pooled(void* memory, std::size_t bytes) {
  check_operation_access(memory, bytes, Access::kFree);
  note_free(memory, bytes);
  madvise(memory, bytes, MADV_DONTNEED);
}

std::int64_t device_allocations() {
  return allocations;
}

void* allocate_pinned(std::size_t bytes) {
  void* memory = std::malloc(bytes);
  std::memset(memory, 0xff, bytes);
  pinned[static_cast<char*>(memory)] = bytes;
  return memory;
}

bool free_pinned(void* memory) {
  if (pinned.erase(static_cast<char*>(memory)) == 0) return false;
  std::free(memory);
  return true;
}

bool on_device(const void* p, std::size_t bytes) {
  return within(device, p, bytes) || within(pooled, p, bytes);
}
bool in_pinned(const void* p, std::size_t bytes) {
  return within(pinned, p, bytes);
}
bool take_device_bytes(std::size_t bytes) {
  if (bytes > settings().memory - std::min(settings().memory, in_use)) return false;
  in_use += bytes;
  return true;
}
void return_device_bytes(std::size_t bytes) {
  in_use -= bytes;
}
std::size_t device_bytes_in_use() {
  return in_use;
}

DeviceRuns::DeviceRuns() {
  if (running++ == 0 && base != nullptr) protect(base, reserved, true);
}

DeviceRuns::~DeviceRuns() {
  if (--running == 0 && base != nullptr && settings().guard) protect(base, reserved, false);
}

}  // namespace emulation
