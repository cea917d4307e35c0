// Owners of memory: Buffer (one block) and Arena (a bump allocator with marks that grows in place).
// Memory on kCuda is touched by device work alone, never by the host. On kMeta both hand out tensors without
// memory and only count bytes, so a dry run reports the peak of a real run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/core/address_range.h"
#include "kernels/core/tensor.h"

namespace jevons {

class Stream;

// Every block starts on a boundary of this many bytes (a cache line, and one AVX-512 vector).
inline constexpr std::size_t kAlignment = 64;

enum class Contents : std::uint8_t { kZero, kUndefined };

// Owns one block; move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device device, std::size_t bytes, Contents contents = Contents::kZero);
  // Zero-filled memory of the host for copies to and from `device`: page-locked for kCuda, none for kMeta.
  static Buffer pinned_for(Device device, std::size_t bytes);
  // Undefined memory of the GPU that exists in the order of `stream`: for work that comes behind this call
  // there, or behind an Event recorded since, until the Buffer's end. Neither end waits for the device. The
  // stream must outlive it.
  static Buffer in_order_of(const Stream& stream, std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  // A view of the bytes from `offset` on, of nothing at address_of_nothing(); throws if it does not fit.
  Tensor view(std::size_t offset, Shape shape, DType dtype) const;

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_ = Device::kCpu;
  bool pinned_ = false;
  void* stream_ = nullptr;  // handle; of in_order_of
};

// Every tensor of an arena starts on a boundary of this many bytes: what cuDNN and cuBLASLt want of scratch.
inline constexpr std::size_t kArenaAlignment = 256;

// Bump allocator over one range of addresses that grows in place, so it holds little more than it has handed
// out at most. Tensors stay valid until the mark taken before them is released; an empty one has an address
// of its own. Contents of a new tensor are undefined (debug builds fill it with NaN bytes). Where no
// addresses can be reserved, memory comes in chunks, which become one when the arena is empty; on kCuda they
// come and go in the order of the stream that the arena's tensors are used on.
class Arena {
 public:
  struct Mark {
    std::size_t chunk = 0, used = 0, total = 0;
  };
  // `stream` is needed on kCuda alone, and must outlive the arena.
  Arena(Device device, const char* name, const Stream* stream = nullptr);

  Tensor alloc(Shape shape, DType dtype);
  Mark mark() const;
  void release(Mark mark);
  void reset() { release({}); }

  Device device() const { return device_; }
  const char* name() const { return name_; }
  std::size_t used_bytes() const { return total_; }
  std::size_t peak_bytes() const { return peak_; }
  // Memory taken from the device, in use or not; none on kMeta. It never shrinks but between chunks.
  std::size_t held_bytes() const;

 private:
  void* place(std::size_t bytes);
  void* place_in_chunk(std::size_t bytes);

  Device device_;
  const char* name_;
  const Stream* stream_;
  std::unique_ptr<AddressRange> range_;  // from the first tensor on
  std::vector<Buffer> chunks_;           // without a range
  std::size_t chunk_ = 0;                // index of the chunk in use
  std::size_t used_ = 0;                 // bytes used of the range, or of that chunk
  std::size_t total_ = 0;                // bytes handed out and not released
  std::size_t peak_ = 0;
};

// Releases what was allocated from `arena` during its life.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace jevons
