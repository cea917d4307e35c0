#include "kernels/core/stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/core/memory.h"

namespace jevons {
namespace {

bool on_cuda(const Tensor& tensor) {
  return tensor.device == Device::kCuda;
}

void* handle_of(const Stream* stream) {
  ENSURE(stream != nullptr && stream->handle() != nullptr, "work on CUDA needs a stream");
  return stream->handle();
}

// Device work needs pinned memory; other host memory passes through a pinned block of this size.
constexpr std::int64_t kStagingBytes = std::int64_t{4} << 20;

Tensor bytes_of(const Tensor& tensor) {
  return {tensor.data, {static_cast<std::int64_t>(tensor.bytes())}, DType::kU8, tensor.device};
}

}  // namespace

Event::Event(Device device) : handle_(device == Device::kCuda ? cuda::create_event() : nullptr) {}

Event::~Event() {
  if (handle_ != nullptr) cuda::destroy_event(handle_);
}

Event::Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

void Event::synchronise() const {
  if (handle_ != nullptr) cuda::synchronise_event(handle_);
}

Stream::Stream(Device device, StreamPriority priority)
    : handle_(device == Device::kCuda ? cuda::create_stream(priority) : nullptr) {}

Stream::~Stream() {
  if (handle_ != nullptr) cuda::destroy_stream(handle_);
}

Stream::Stream(Stream&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), links_(std::exchange(other.links_, nullptr)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(links_, other.links_);
  return *this;
}

void Stream::record(Event& event) const {
  if (handle_ != nullptr) cuda::record_event(event.handle(), handle_);
}

void Stream::wait(const Event& event) const {
  if (handle_ != nullptr) cuda::wait_event(handle_, event.handle());
}

void Stream::synchronise() const {
  if (handle_ == nullptr) return;
  if (links_ == nullptr) return cuda::synchronise_stream(handle_);
  // No pause between the looks, as in the runtime's own wait: most waits are shorter than a pause would be.
  using Clock = std::chrono::steady_clock;
  for (Clock::time_point asked = Clock::now(); !cuda::is_idle(handle_);) {
    if (Clock::now() - asked >= std::chrono::milliseconds(1)) {
      links_->check();
      asked = Clock::now();
    }
    std::this_thread::yield();
  }
}

void copy_async(const Stream* stream, const Tensor& to, const Tensor& from) {
  ENSURE(to.dtype == from.dtype && to.numel() == from.numel(), "copy of {} to {}", from.to_string(),
         to.to_string());
  if (to.device == Device::kMeta || from.device == Device::kMeta || to.numel() == 0) return;
  if (!on_cuda(to) && !on_cuda(from)) {
    std::memcpy(to.data, from.data, to.bytes());
    return;
  }
  const cuda::CopyKind kind = !on_cuda(from) ? cuda::CopyKind::kHostToDevice
                              : on_cuda(to)  ? cuda::CopyKind::kDeviceToDevice
                                             : cuda::CopyKind::kDeviceToHost;
  cuda::copy_async(handle_of(stream), to.data, from.data, to.bytes(), kind);
}

void zero_async(const Stream* stream, const Tensor& tensor) {
  if (tensor.device == Device::kMeta || tensor.numel() == 0) return;
  if (on_cuda(tensor)) {
    cuda::fill_async(handle_of(stream), tensor.data, 0, tensor.bytes());
  } else {
    std::memset(tensor.data, 0, tensor.bytes());
  }
}

void copy_and_wait(const Stream* stream, const Tensor& to, const Tensor& from) {
  if (to.device == Device::kMeta || from.device == Device::kMeta || on_cuda(to) == on_cuda(from)) {
    copy_async(stream, to, from);
    if (stream != nullptr) stream->synchronise();
    return;
  }
  ENSURE(to.dtype == from.dtype && to.numel() == from.numel(), "copy of {} to {}", from.to_string(),
         to.to_string());
  const Tensor target = bytes_of(to), source = bytes_of(from);
  const Buffer staging =
      Buffer::pinned_for(Device::kCuda, static_cast<std::size_t>(std::min(kStagingBytes, target.numel())));
  for (std::int64_t begin = 0; begin < target.numel(); begin += kStagingBytes) {
    const std::int64_t end = std::min(begin + kStagingBytes, target.numel());
    const Tensor part = staging.view(0, {end - begin}, DType::kU8);
    copy_async(stream, part, source.slice(begin, end));
    if (on_cuda(from)) stream->synchronise();
    copy_async(stream, target.slice(begin, end), part);
    if (on_cuda(to)) stream->synchronise();
  }
}

}  // namespace jevons
