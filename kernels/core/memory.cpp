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

// Of an arena without a range of addresses.
constexpr std::size_t kSmallestChunk = std::size_t{1} << 20;
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

Tensor Arena::alloc(Shape shape, DType dtype) {
  const std::size_t wanted = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  const std::size_t bytes = round_up(std::max<std::size_t>(wanted, 1), kArenaAlignment);
  total_ += bytes;
  peak_ = std::max(peak_, total_);
  if (device_ == Device::kMeta) return {nullptr, shape, dtype, device_};
  const Tensor t{place(bytes), shape, dtype, device_};
#ifndef NDEBUG
  if (device_ == Device::kCpu) std::memset(t.data, 0xff, t.bytes());  // NaN in every float type
#endif
  return t;
}

void* Arena::place(std::size_t bytes) {
  if (!range_ && chunks_.empty()) range_ = AddressRange::reserve(device_, stream_);
  if (!range_) return place_in_chunk(bytes);
  range_->hold(used_ + bytes);
  return range_->data() + std::exchange(used_, used_ + bytes);
}

void* Arena::place_in_chunk(std::size_t bytes) {
  while (chunk_ < chunks_.size() && bytes > chunks_[chunk_].bytes() - used_) ++chunk_, used_ = 0;
  if (chunk_ == chunks_.size()) {
    // The first holds all that was ever wanted; more are small beside it.
    const std::size_t usual = chunks_.empty() ? AddressRange::with_headroom(peak_) : held_bytes() / 16;
    const std::size_t size = std::max({bytes, usual, kSmallestChunk});
    chunks_.push_back(device_ == Device::kCuda ? Buffer::in_order_of(*stream_, size)
                                               : Buffer(device_, size, Contents::kUndefined));
    used_ = 0;
  }
  const Tensor t = chunks_[chunk_].view(used_, {static_cast<std::int64_t>(bytes)}, DType::kU8);
  used_ += bytes;
  return t.data;
}

std::size_t Arena::held_bytes() const {
  if (range_) return range_->held();
  std::size_t held = 0;
  for (const Buffer& chunk : chunks_) held += chunk.bytes();
  return held;
}

Arena::Mark Arena::mark() const {
  return {chunk_, used_, total_};
}

void Arena::release(Mark mark) {
  chunk_ = mark.chunk;
  used_ = mark.used;
  total_ = mark.total;
  // Tensors of other sizes skip chunks that are a row too small for them, so that chunks would grow in number
  // for ever: the next one will hold everything.
  if (total_ == 0 && chunks_.size() > 1) chunks_.clear();
}

}  // namespace jevons
