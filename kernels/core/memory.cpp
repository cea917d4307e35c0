#include "kernels/core/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/core/stream.h"

namespace jevons {
namespace {

// An arena's chunks double from the smallest to the largest size, so that a small model's arena stays small.
constexpr std::size_t kSmallestChunk = std::size_t{1} << 20, kLargestChunk = std::size_t{32} << 20;
constexpr std::size_t kPage = 4096;

std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

Buffer::Buffer(Device device, std::size_t bytes, Contents contents) : bytes_(bytes), device_(device) {
  if (device == Device::kMeta || bytes == 0) return;
  if (device == Device::kCuda) {
    data_ = cuda::allocate(bytes);
    if (contents == Contents::kZero) {
      const Stream stream(device);
      zero_async(&stream, view(0, {static_cast<std::int64_t>(bytes)}, DType::kU8));
      stream.synchronise();
    }
    return;
  }
  data_ = std::aligned_alloc(kPage, round_up(bytes, kPage));
  if (data_ == nullptr) fail(ExitCode::kFailure, "out of memory: cannot allocate {} bytes", bytes);
  if (contents == Contents::kZero) std::memset(data_, 0, bytes);
}

Buffer Buffer::pinned_for(Device device, std::size_t bytes) {
  if (device != Device::kCuda || bytes == 0)
    return Buffer(device == Device::kMeta ? device : Device::kCpu, bytes);
  Buffer buffer;
  buffer.data_ = cuda::allocate_pinned(bytes);
  buffer.bytes_ = bytes;
  buffer.pinned_ = true;
  std::memset(buffer.data_, 0, bytes);
  return buffer;
}

Buffer Buffer::in_order_of(const Stream& stream, std::size_t bytes) {
  Buffer buffer;
  buffer.data_ = cuda::allocate_async(stream.handle(), bytes);
  buffer.bytes_ = bytes;
  buffer.device_ = Device::kCuda;
  buffer.stream_ = stream.handle();
  return buffer;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (stream_ != nullptr) {
    cuda::deallocate_async(stream_, data_);
  } else if (pinned_) {
    cuda::deallocate_pinned(data_);
  } else if (device_ == Device::kCuda) {
    cuda::deallocate(data_);
  } else {
    std::free(data_);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_),
      pinned_(other.pinned_),
      stream_(other.stream_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  std::swap(pinned_, other.pinned_);
  std::swap(stream_, other.stream_);
  return *this;
}

Tensor Buffer::view(std::size_t offset, Shape shape, DType dtype) const {
  const std::size_t need = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  ENSURE(offset <= bytes_ && need <= bytes_ - offset, "view of {} bytes at {} in a buffer of {}", need,
         offset, bytes_);
  if (device_ == Device::kMeta) return {nullptr, shape, dtype, device_};
  return {need == 0 ? address_of_nothing() : static_cast<std::byte*>(data_) + offset, shape, dtype, device_};
}

Arena::Arena(Device device, const char* name, const Stream* stream)
    : device_(device), name_(name), stream_(stream) {
  ENSURE(device != Device::kCuda || stream != nullptr, "arena {}: on CUDA it needs a stream", name);
}

Buffer Arena::new_chunk(std::size_t bytes) const {
  if (device_ == Device::kCuda) return Buffer::in_order_of(*stream_, bytes);
  return Buffer(device_, bytes, Contents::kUndefined);
}

Tensor Arena::alloc(Shape shape, DType dtype) {
  // A tensor of no elements takes memory too: its address is its own.
  const std::size_t wanted = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  const std::size_t bytes = round_up(std::max<std::size_t>(wanted, 1), kAlignment);
  total_ += bytes;
  peak_ = std::max(peak_, total_);
  if (device_ == Device::kMeta) return {nullptr, shape, dtype, device_};
  while (chunk_ < chunks_.size() && bytes > chunks_[chunk_].bytes() - used_) ++chunk_, used_ = 0;
  if (chunk_ == chunks_.size()) {
    const std::size_t usual = chunks_.empty() ? kSmallestChunk : 2 * chunks_.back().bytes();
    chunks_.push_back(new_chunk(std::max(bytes, std::min(usual, kLargestChunk))));
    used_ = 0;
  }
  Tensor t = chunks_[chunk_].view(used_, {static_cast<std::int64_t>(bytes)}, DType::kU8);
  t.shape = shape, t.dtype = dtype;
  used_ += bytes;
#ifndef NDEBUG
  if (device_ == Device::kCpu) std::memset(t.data, 0xff, t.bytes());  // NaN in every float type
#endif
  return t;
}

Arena::Mark Arena::mark() const {
  return {chunk_, used_, total_};
}

void Arena::release(Mark mark) {
  chunk_ = mark.chunk;
  used_ = mark.used;
  total_ = mark.total;
}

}  // namespace jevons
