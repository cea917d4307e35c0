#include "device_memory.h"

#include <sys/mman.h>

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
int running = 0;
Allocations device, pinned;

bool within(const Allocations& allocations, const void* p, std::size_t bytes) {
  const char* begin = static_cast<const char*>(p);
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return false;
  const auto& [start, size] = *--next;
  return begin + bytes <= start + size;
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
  device_base();
  const DeviceRuns scope;
  const std::size_t pages = (bytes + kPage - 1) / kPage * kPage;
  if (pages + kPage > kDeviceAddresses - reserved) return nullptr;
  char* memory = base + reserved;
  protect(memory, pages, true);
  std::memset(memory, 0xff, bytes);
  reserved += pages + kPage;
  in_use += bytes;
  device[memory] = bytes;
  note_device_memory(memory, bytes, true);
  return memory;
}

bool free_device(void* memory) {
  const auto it = device.find(static_cast<char*>(memory));
  if (it == device.end()) return false;
  note_device_memory(memory, it->second, false);
  in_use -= it->second;
  madvise(memory, it->second, MADV_DONTNEED);
  device.erase(it);
  return true;
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
  return within(device, p, bytes);
}
bool in_pinned(const void* p, std::size_t bytes) {
  return within(pinned, p, bytes);
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
