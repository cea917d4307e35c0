// The device that one worker computes on, with the communicators that reach it: a GPU of this host, or the
// CPU.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "parallel/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/step/model_worker.h"

namespace jevons {

// What `device:` of a configuration means here.
struct ChosenDevice {
  DeviceChoice choice = DeviceChoice::kCpu;  // not kAuto
  std::string obstacle;                      // why cuda cannot be had, though it is wanted; else empty
};
// Auto is cuda where every host has a GPU. `wanted` of rank 0 counts. Collective.
ChosenDevice choose_device(DeviceChoice wanted, Communicator& hosts);

class ComputeDevice {
 public:
  // `choice`: of choose_device; the CPU unless it is kCuda. Worker `local_rank` of a host takes its GPU
  // local_rank % GPUs. Collective over `hosts`, which must outlive this.
  ComputeDevice(DeviceChoice choice, int local_rank, Communicator& hosts);

  // Throws Error(kUsage) on all ranks if the GPU of one has less free than its workers' predicted peaks. To
  // be called before workers take any. Collective.
  void require_memory(const MemoryReport& predicted, const RunConfig& config) const;

  // Ends all that the device has under way with those of other workers, and every possibility of it: before
  // what this worker computes with is destroyed because of an error, which waits for the device. False if
  // the device does not let go.
  bool cut_links() noexcept;

  ComputePlace place() { return {device_, stream_ ? &*stream_ : nullptr}; }
  Communicator& world() { return world_ ? *world_ : hosts_; }

 private:
  Communicator& hosts_;
  Device device_ = Device::kCpu;
  std::optional<Stream> stream_;
  std::unique_ptr<Communicator> world_;
};

}  // namespace jevons
