#include "kernels/core/address_range.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/core/stream.h"

namespace jevons {
namespace {

std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

std::size_t page_bytes() {
  return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

// All that the host could ever put behind addresses.
std::size_t host_memory() {
  struct sysinfo info {};
  ENSURE(sysinfo(&info) == 0, "sysinfo fails");
  return (std::size_t{info.totalram} + info.totalswap) * info.mem_unit;
}

bool addresses_are_limited() {
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

std::byte* reserve_on_host(std::size_t bytes) {
  if (addresses_are_limited()) return nullptr;
  void* const data = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

}  // namespace

std::unique_ptr<AddressRange> AddressRange::reserve(Device device, const Stream* stream) {
  const bool gpu = device == Device::kCuda;
  const std::size_t granularity = gpu ? cuda::mapping_granularity() : page_bytes();
  if (granularity == 0) return nullptr;
  std::unique_ptr<AddressRange> range(new AddressRange(device, stream));
  range->granularity_ = granularity;
  range->addresses_ = round_up(gpu ? device::memory_info().total : host_memory(), granularity);
  void* const data = gpu ? cuda::reserve_addresses(range->addresses_) : reserve_on_host(range->addresses_);
  range->data_ = static_cast<std::byte*>(data);
  return data == nullptr ? nullptr : std::move(range);
}

AddressRange::~AddressRange() {
  if (data_ == nullptr) return;
  if (device_ == Device::kCuda) {
    cuda::release_addresses(stream_->handle(), data_, addresses_, pieces_);
  } else {
    munmap(data_, addresses_);
  }
}

void AddressRange::hold(std::size_t bytes) {
  if (bytes <= held_) return;
  const std::size_t least = round_up(bytes, granularity_);
  const std::size_t generous =
      std::min(std::max(least, round_up(with_headroom(held_), granularity_)), addresses_);
  if (least <= addresses_ && (extend_to(generous) || (generous > least && extend_to(least)))) return;
  if (device_ == Device::kCuda) cuda::fail_for_memory(least - held_);
  fail(ExitCode::kFailure, "out of memory: cannot add {} bytes to {}", least - held_, held_);
}

// False if there is not as much memory.
bool AddressRange::extend_to(std::size_t bytes) {
  const std::size_t more = bytes - held_;
  if (device_ == Device::kCuda) {
    if (!cuda::map_memory(data_ + held_, more)) return false;
    pieces_.push_back(more);
  } else if (mprotect(data_ + held_, more, PROT_READ | PROT_WRITE) != 0) {
    return false;
  }
  held_ = bytes;
  return true;
}

}  // namespace jevons
