#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <utility>

#include "checker.h"
#include "control.h"

namespace emulation {
namespace {

constexpr std::size_t kPage = 4096, kRangeAlignment = std::size_t{2} << 20;
using Allocations = std::map<const char*, std::size_t>;  // start and bytes

char* base = nullptr;
std::size_t reserved = 0;  // bytes of the range given out so far
std::size_t in_use = 0;
std::int64_t allocations = 0;
int running = 0;
Allocations device, pooled, pinned, ranges, mapped;
std::deque<std::pair<char*, std::size_t>> freed_ranges;

bool within(const Allocations& allocations, const void* p, std::size_t bytes) {
  const char* begin = static_cast<const char*>(p);
  auto next = allocations.upper_bound(begin);
  if (next == allocations.begin()) return false;
  const auto& [start, size] = *--next;
  return begin + bytes <= start + size;
}

// Fresh pages on a multiple of `alignment`; null if no addresses are left.
char* fresh_addresses(std::size_t bytes, std::size_t alignment) {
  device_base();
  const std::size_t begin = (reserved + alignment - 1) / alignment * alignment;
  const std::size_t pages = (bytes + kPage - 1) / kPage * kPage;
  if (begin + pages + kPage > kDeviceAddresses) return nullptr;
  reserved = begin + pages + kPage;
  return base + begin;
}

// Adds an allocation; null if no addresses are left.
void* add(Allocations& list, std::size_t bytes) {
  char* const memory = fresh_addresses(bytes, kPage);
  if (memory == nullptr) return nullptr;
  ++allocations;
  list[memory] = bytes;
  return memory;
}

// Mapped memory may be of several pieces without gaps.
bool in_mapped(const char* begin, std::size_t bytes) {
  const char* const end = begin + bytes;
  for (auto piece = mapped.upper_bound(begin); piece != mapped.begin();) {
    const auto [start, size] = *std::prev(piece);
    if (begin >= start + size) return false;
    if (end <= start + size) return true;
    begin = start + size;
    if (piece == mapped.end() || piece->first != begin) return false;
    ++piece;
  }
  return false;
}

// The bytes of what is no longer an allocation; 0 if it was none.
std::size_t remove(Allocations& list, void* memory) {
  const auto node = list.extract(static_cast<const char*>(memory));
  return node.empty() ? 0 : node.mapped();
}

void fill(void* memory, std::size_t bytes) {
  if (settings().fill) std::memset(memory, 0xff, bytes);
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
  fill(memory, bytes);
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
  fill(memory, bytes);
}

void end_pooled(void* memory, std::size_t bytes) {
  check_operation_access(memory, bytes, Access::kFree);
  note_free(memory, bytes);
  madvise(memory, bytes, MADV_DONTNEED);
}

void* reserve_range(std::size_t bytes) {
  char* range = fresh_addresses(bytes, kRangeAlignment);
  const auto fits = [&](const auto& freed) { return freed.second == bytes; };
  const auto again = std::find_if(freed_ranges.begin(), freed_ranges.end(), fits);
  if (range == nullptr && again != freed_ranges.end()) {
    range = again->first;
    freed_ranges.erase(again);
  }
  if (range != nullptr) ranges[range] = bytes;
  return range;
}

bool free_range(void* range, std::size_t bytes) {
  char* const begin = static_cast<char*>(range);
  const auto known = ranges.find(begin), inside = mapped.lower_bound(begin);
  if (known == ranges.end() || known->second != bytes) return false;
  if (inside != mapped.end() && inside->first < begin + bytes) return false;
  ranges.erase(known);
  freed_ranges.emplace_back(begin, bytes);
  return true;
}

bool in_range(const void* p, std::size_t bytes) {
  return within(ranges, p, bytes);
}

void open_mapped(void* memory, std::size_t bytes) {
  ++allocations;
  mapped[static_cast<char*>(memory)] = bytes;
  const DeviceRuns scope;
  fill(memory, bytes);
  note_allocation(memory, bytes, kAllocatedByHost);
}

bool close_mapped(void* memory, std::size_t bytes) {
  const auto known = mapped.find(static_cast<char*>(memory));
  if (known == mapped.end() || known->second != bytes) return false;
  mapped.erase(known);
  note_free(memory, bytes);
  madvise(memory, bytes, MADV_DONTNEED);
  return true;
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
  return within(device, p, bytes) || within(pooled, p, bytes) ||
         in_mapped(static_cast<const char*>(p), bytes);
}
bool in_pinned(const void* p, std::size_t bytes) {
  return within(pinned, p, bytes);
}
bool take_device_bytes(std::size_t bytes) {
  const int last = settings().allocations_fail_after;
  if (last > 0 && allocations >= last) return false;
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
