#include "trainer/compute_device.h"

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "parallel/nccl/device_world.h"
#include "trainer/io/format.h"

namespace jevons {

DeviceChoice choose_device(DeviceChoice wanted, Communicator& hosts) {
  if (wanted == DeviceChoice::kCpu) return wanted;
  const cuda::Availability gpus = cuda::availability();
  agree(hosts, [&] {
    if (wanted == DeviceChoice::kCuda && gpus.devices == 0)
      fail(ExitCode::kUsage, "device: cuda: {}; use cpu or auto", gpus.reason);
  });
  std::int32_t everywhere = gpus.devices > 0 ? 1 : 0;
  hosts.all_reduce({&everywhere, {1}, DType::kI32, Device::kCpu}, ReduceOp::kMin).wait();
  return everywhere == 1 ? DeviceChoice::kCuda : DeviceChoice::kCpu;
}

ComputeDevice::ComputeDevice(DeviceChoice choice, int local_rank, Communicator& hosts) : hosts_(hosts) {
  if (choice != DeviceChoice::kCuda) return;
  device_ = Device::kCuda;
  agree(hosts, [&] { cuda::select_device(local_rank % cuda::availability().devices); });
  stream_.emplace(device_);
  world_ = nccl::make_device_world(hosts, *stream_);
}

bool ComputeDevice::cut_links() noexcept {
  return !stream_ || stream_->links() == nullptr || stream_->links()->cut();
}

void ComputeDevice::require_memory(const MemoryReport& predicted) const {
  if (device_ != Device::kCuda) return;
  agree(hosts_, [&] {
    const std::size_t total = cuda::memory_info().total;
    if (predicted.total() <= total) return;
    fail(ExitCode::kUsage,
         "a worker needs {} of memory at its peak, by the dry run at balanced routing; its GPU has {}:\n{}"
         "Less takes: a smaller train.micro_batch_size, or model.recompute, for activations and temporaries; "
         "parallel.zero_stage = 1 for the optimizer; more workers with a larger parallel.ep or parallel.tp "
         "for "
         "everything (jevons plan)",
         format_bytes(static_cast<double>(predicted.total())), format_bytes(static_cast<double>(total)),
         predicted.to_string());
  });
}

}  // namespace jevons
