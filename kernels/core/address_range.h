// Memory that grows where it lies: a range of as many addresses as the device can have memory for, of which
// the first held() bytes have memory behind them. Growing moves nothing and waits for no work of the device.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/core/tensor.h"

namespace jevons {

class Stream;

class AddressRange {
 public:
  // Null where addresses cannot be reserved: by the GPU's driver, or under a limit on addresses (ulimit -v).
  // `stream`, needed on kCuda alone, must outlive the range.
  static std::unique_ptr<AddressRange> reserve(Device device, const Stream* stream);
  // On kCuda waits until the stream has done what it was given.
  ~AddressRange();
  AddressRange(const AddressRange&) = delete;
  AddressRange& operator=(const AddressRange&) = delete;

  // On a page of memory; always the same.
  std::byte* data() const { return data_; }
  std::size_t held() const { return held_; }
  // Puts memory, with undefined contents, behind the first `bytes` at least: on kCuda for every stream, at
  // once. Takes with_headroom(held()) if there is as much, so that growth is rare. Throws Error(kFailure), on
  // kCuda device::OutOfMemory, if there is not enough; what is held stays.
  void hold(std::size_t bytes);

  // `bytes` and a sixteenth: what memory that was too small grows to.
  static std::size_t with_headroom(std::size_t bytes) { return bytes + bytes / 16; }

 private:
  AddressRange(Device device, const Stream* stream) : device_(device), stream_(stream) {}
  bool extend_to(std::size_t bytes);

  Device device_;
  const Stream* stream_;
  std::byte* data_ = nullptr;
  std::size_t addresses_ = 0, granularity_ = 0;  // bytes; memory comes in multiples of the latter
  std::size_t held_ = 0;
  std::vector<std::size_t> pieces_;  // bytes, on kCuda: what was mapped at once is unmapped at once
};

}  // namespace jevons
