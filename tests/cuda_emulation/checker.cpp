#include "checker.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "device_memory.h"
#include "engine.h"
#include "findings.h"
#include "streams.h"

extern "C" char __executable_start, _end;

namespace emulation {

constinit Position position;

namespace {

// Operation numbers below kFirstOperation, in place of a cell's last write, are states of the memory.
enum State : std::uint32_t { kOutside, kAllocated = kAllocatedByHost, kFreed };
static_assert(kFirstOperation > kFreed);

constexpr std::uint32_t kWholeOperation = ~0u;  // in place of a thread
constexpr std::uint32_t kAtomicBit = 1u << 31;
constexpr std::uint32_t kFirstByteBit = 1u << 30, kSecondByteBit = 1u << 29;  // one byte of the cell alone
constexpr std::uint32_t kUndefinedBit = 1u << 28;  // the allocation, in place of a write
constexpr std::uint32_t kOffsetBits = kUndefinedBit - 1;

struct Mark {
  std::uint32_t operation;
  std::uint32_t thread;  // block << 10 | thread of the block
  std::uint16_t barrier;
  WarpSyncs warp_syncs;
  std::uint32_t code;  // offset in the program, and the bits above

  bool atomic() const { return (code & kAtomicBit) != 0; }
  bool undefined() const { return (code & kUndefinedBit) != 0; }
  bool apart_from(const Mark& other) const {
    return ((code | other.code) & kFirstByteBit) != 0 && ((code | other.code) & kSecondByteBit) != 0;
  }
  std::uint32_t block() const { return thread >> 10; }
};

// For two bytes of memory: the last write, and two reads since. More reads are rarely needed to see a race,
// since readers that are ordered replace each other. Of two bytes that are written one by one, the
// first one's write is kept in place of a read: later writes are held against it, later reads are not.
struct Cell {
  Mark write;
  Mark read[2];
};
constexpr std::size_t kBytesPerCell = 2;

bool enabled = false;
std::set<std::pair<std::uint32_t, std::uint32_t>> reported;

// Zero pages until touched, so that the whole address range has a shadow.
Cell* shadow_of(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes / kBytesPerCell * sizeof(Cell), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return static_cast<Cell*>(memory);
}

Cell* device_cell(const void* memory) {
  static Cell* const shadow = shadow_of(kDeviceAddresses);
  return shadow + (static_cast<const char*>(memory) - device_base()) / kBytesPerCell;
}

Cell* shared_cell(const void* memory) {
  static Cell* const shadow = shadow_of(kMostSharedMemory);
  return shadow + (static_cast<const char*>(memory) - position.shared_memory) / kBytesPerCell;
}

std::size_t cells_of(const void* memory, std::size_t bytes) {
  return (reinterpret_cast<std::uintptr_t>(memory) % kBytesPerCell + bytes + kBytesPerCell - 1) /
         kBytesPerCell;
}

void fill(Cell* cell, std::size_t cells, std::uint32_t operation, std::uint32_t code = 0) {
  for (Cell* end = cell + cells; cell < end; ++cell) *cell = {{operation, kWholeOperation, 0, {}, code}, {}};
}

// "file.cu:12", from the debug information.
std::string source_line(std::uint32_t code) {
  if ((code & kUndefinedBit) != 0) return "the allocation";
  if ((code & kOffsetBits) == 0) return "a copy, fill or library call";
  char command[128], line[256] = "?";
  std::snprintf(command, sizeof command, "addr2line -s -e /proc/%d/exe 0x%x", getpid(),
                (code & kOffsetBits) - 1);
  if (FILE* pipe = popen(command, "r")) {
    if (std::fgets(line, sizeof line, pipe) != nullptr) line[std::strcspn(line, " \n")] = 0;
    pclose(pipe);
  }
  return line;
}

std::string name_of(const Mark& mark) {
  std::string name = "operation " + std::to_string(mark.operation);
  if (mark.thread == kWholeOperation) return name;
  return name + " block " + std::to_string(mark.block()) + " thread " + std::to_string(mark.thread & 1023);
}

struct Target {
  const char* space;
  Access access;
};

void report_access(const char* what, Target target, const Mark& mark, const Mark* other = nullptr) {
  if (!reported.insert({mark.code, other != nullptr ? other->code : 0}).second) return;
  const char* verb = target.access == Access::kRead    ? "read of"
                     : target.access == Access::kWrite ? "write to"
                     : target.access == Access::kFree  ? "free of"
                                                       : "atomic on";
  std::string text = std::string(what) + ": " + verb + " " + target.space + " memory at " +
                     source_line(mark.code) + " by " + name_of(mark);
  if (other != nullptr) text += ", against " + source_line(other->code) + " by " + name_of(*other);
  report(text);
}

bool ordered(const Mark& earlier, const Mark& now) {
  if (earlier.operation != now.operation) return happened_before(earlier.operation, now.operation);
  if (earlier.thread == now.thread) return true;
  if (earlier.block() != now.block()) return false;
  if (earlier.barrier < now.barrier) return true;
  for (std::size_t i = 0; i < std::size(kNeighbours); ++i) {
    const bool neighbours = earlier.thread / kNeighbours[i] == now.thread / kNeighbours[i];
    if (neighbours && earlier.warp_syncs[i] < now.warp_syncs[i]) return true;
  }
  return false;
}

bool race(const Mark& earlier, const Mark& now) {
  return earlier.operation >= kFirstOperation && !(earlier.atomic() && now.atomic()) &&
         !earlier.apart_from(now) && !ordered(earlier, now);
}

void touch_cell(Cell& cell, const Mark& now, Target target) {
  const bool reads = target.access == Access::kRead || target.access == Access::kAtomic;
  if (race(cell.write, now)) {
    report_access(cell.write.undefined() ? "use before allocation" : "race", target, now, &cell.write);
  } else if (cell.write.undefined() && reads) {
    report_access("uninitialised read", target, now);
    cell.write = now;
  }
  if (target.access != Access::kRead) {
    for (const Mark& read : cell.read) {
      if (race(read, now)) report_access("race", target, now, &read);
    }
    const bool beside = cell.write.apart_from(now);
    cell = {now, {beside ? cell.write : Mark{}, {}}};
  } else if (cell.read[0].operation == 0 || ordered(cell.read[0], now)) {
    cell.read[0] = now;
  } else {
    cell.read[1] = now;
  }
}

void touch(Cell* cell, std::size_t cells, const Mark& now, Target target) {
  for (Cell* end = cell + cells; cell < end; ++cell) {
    const std::uint32_t state = cell->write.operation;
    if (state == kOutside) return report_access("out of bounds", target, now);
    if (state == kFreed) return report_access("use after free", target, now);
    touch_cell(*cell, now, target);
  }
}

// Memory of the running fiber, of the program's globals (the emulation's own), of the views behind threadIdx.
bool private_memory(const char* p) {
  return on_stack_of_running_thread(p) || (p >= &__executable_start && p < &_end) || in_thread_views(p);
}

}  // namespace

bool checker_on() {
  return enabled;
}
void turn_checker_on() {
  enabled = true;
}
void forget_reported_pairs() {
  reported.clear();
}

void note_allocation(const void* memory, std::size_t bytes, std::uint32_t allocation) {
  if (enabled) fill(device_cell(memory), cells_of(memory, bytes), allocation, kUndefinedBit);
}

void note_free(const void* memory, std::size_t bytes) {
  if (enabled) fill(device_cell(memory), cells_of(memory, bytes), kFreed);
}

void forget_shared_memory(std::size_t bytes_used) {
  if (enabled) fill(shared_cell(position.shared_memory), bytes_used / kBytesPerCell, kOutside);
}

void note_shared_memory(const void* memory, std::size_t bytes) {
  if (enabled) fill(shared_cell(memory), cells_of(memory, bytes), kAllocated, kUndefinedBit);
}

void check_access(const void* memory, std::size_t bytes, Access access, const void* code) {
  if (thread_view == nullptr) return;
  const char* p = static_cast<const char*>(memory);
  const std::uint32_t byte = bytes > 1                                      ? 0
                             : reinterpret_cast<std::uintptr_t>(p) % 2 == 0 ? kFirstByteBit
                                                                            : kSecondByteBit;
  const Mark now{position.operation, position.block << 10 | running_thread_number(),
                 static_cast<std::uint16_t>(position.barrier), position.warp_syncs[running_thread_number()],
                 static_cast<std::uint32_t>(static_cast<const char*>(code) - &__executable_start) | byte |
                     (access == Access::kAtomic ? kAtomicBit : 0)};
  if (in_device_addresses(p)) {
    touch(device_cell(p), cells_of(p, bytes), now, {"global", access});
  } else if (p >= position.shared_memory && p < position.shared_memory + kMostSharedMemory) {
    touch(shared_cell(p), cells_of(p, bytes), now, {"shared", access});
  } else if (!private_memory(p)) {
    report_access("device code touches host memory", {"host", access}, now);
  }
}

void check_operation_access(const void* memory, std::size_t bytes, Access access) {
  if (!enabled || bytes == 0 || !in_device_addresses(memory)) return;
  touch(device_cell(memory), cells_of(memory, bytes), {position.operation, kWholeOperation, 0, {}, 0},
        {"global", access});
}

}  // namespace emulation
