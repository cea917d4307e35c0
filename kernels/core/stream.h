// The order of work on a device. Work given to one stream runs in order; streams run beside each other, and
// events order one behind another. On the CPU a call is done when it returns, so streams and events there do
// nothing.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace jevons {

// A mark in a stream: the work that the stream was given before record(). Move-only.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;

  // Blocks the host until the marked work is done; at once if nothing was recorded.
  void synchronise() const;
  // For kernels/cuda and parallel/nccl: a cudaEvent_t on kCuda, null elsewhere.
  void* handle() const { return handle_; }

 private:
  void* handle_ = nullptr;
};

// What this device has under way with those of other processes. Such work may wait for ever: for a process
// that is gone, or behind a link that broke.
class DeviceLinks {
 public:
  virtual ~DeviceLinks() = default;
  // Throws if a link has failed; what its work waits for will not come then.
  virtual void check() = 0;
  // Ends all work over the links and the links themselves, so that nothing waits for other processes any
  // more. False if it cannot.
  virtual bool cut() noexcept = 0;
};

// Whose work a device with too little room for all takes first.
enum class StreamPriority : std::uint8_t { kUsual, kHighest };

// Move-only. Destroying a stream waits for its work.
class Stream {
 public:
  explicit Stream(Device device, StreamPriority priority = StreamPriority::kUsual);
  ~Stream();
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;

  // Sets the mark `event` behind all work given so far; an older mark is forgotten.
  void record(Event& event) const;
  // Work given from now on starts after the work marked by `event`; the host does not wait.
  void wait(const Event& event) const;
  // Blocks the host until all work given so far is done. Asks links(), if there are any, about every
  // millisecond, and throws what they throw.
  void synchronise() const;
  // Those that work of this stream may wait for; null: none. They must outlive it, or be taken away.
  void set_links(DeviceLinks* links) { links_ = links; }
  DeviceLinks* links() const { return links_; }
  // For kernels/cuda and parallel/nccl: a cudaStream_t on kCuda, null elsewhere.
  void* handle() const { return handle_; }

 private:
  void* handle_ = nullptr;
  DeviceLinks* links_ = nullptr;
};

// to := from, same dtype and number of elements, each on any device; with a side on kMeta nothing happens. If
// a side is on kCuda, the copy is work of `stream`, and a side on the CPU must lie in pinned memory
// (Buffer::pinned_for) and stay untouched until the stream has passed the copy. `stream` may be null if no
// side is on kCuda.
void copy_async(const Stream* stream, const Tensor& to, const Tensor& from);
// Sets every byte of `tensor` to 0: work of `stream` on kCuda, which alone needs one.
void zero_async(const Stream* stream, const Tensor& tensor);
// to := from, done on return, from and to any memory: for initialisation, checkpoints and tests, not for
// steps.
void copy_and_wait(const Stream* stream, const Tensor& to, const Tensor& from);

}  // namespace jevons
