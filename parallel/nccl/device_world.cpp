#include "parallel/nccl/device_world.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/nccl/nccl_communicator.h"
#include "parallel/nccl/staged_communicator.h"

namespace jevons::nccl {
namespace {

constexpr std::size_t kNameBytes = 128;

// Which GPU in the world this rank works on: its bus address and its host.
std::array<char, kNameBytes> name_of_gpu() {
  std::array<char, kNameBytes> name{};
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetPCIBusId(name.data(), kNameBytes / 2, device) != cudaSuccess) {
    fail(ExitCode::kFailure, "no GPU is selected: {}", cudaGetErrorString(cudaGetLastError()));
  }
  gethostname(name.data() + kNameBytes / 2, kNameBytes / 2 - 1);
  return name;
}

// Two ranks that work on the same GPU, the first such pair; {-1, -1} if there is none.
std::pair<int, int> ranks_of_one_gpu(Communicator& hosts) {
  const auto ranks = static_cast<std::size_t>(hosts.size());
  std::array<char, kNameBytes> mine = name_of_gpu();
  std::vector<std::array<char, kNameBytes>> names(ranks);
  const auto bytes = static_cast<std::int64_t>(kNameBytes);
  hosts
      .all_gather({mine.data(), {bytes}, DType::kU8, Device::kCpu},
                  {names.data(), {bytes * hosts.size()}, DType::kU8, Device::kCpu})
      .wait();
  for (std::size_t second = 1; second < ranks; ++second) {
    const auto first =
        std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(second), names[second]);
    if (first != names.begin() + static_cast<std::ptrdiff_t>(second))
      return {static_cast<int>(first - names.begin()), static_cast<int>(second)};
  }
  return {-1, -1};
}

// Collectives of several communicators are under way at once. NCCL may start them in another order on every
// rank, whose kernels then wait for each other for ever, unless it is told to keep the order of the calls,
// which is the same on all ranks. It reads this once, so before anything else is asked of it.
void keep_order_of_calls() {
  constexpr int kFirstVersion = 22600;
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 1);
  int v = 0;
  if (ncclGetVersion(&v) != ncclSuccess || v >= kFirstVersion) return;
  fail(ExitCode::kUsage,
       "NCCL {} cannot keep the order of collectives of several communicators; use 2.26 or newer", version());
}

}  // namespace

std::string version() {
  int v = 0;
  if (ncclGetVersion(&v) != ncclSuccess) return "unknown";
  return fmt::format("{}.{}.{}", v / 10000, v % 10000 / 100, v % 100);
}

std::unique_ptr<Communicator> make_device_world(Communicator& hosts, Stream& compute,
                                                std::size_t scratch_bytes) {
  const auto [first, second] = ranks_of_one_gpu(hosts);
  std::unique_ptr<Communicator> world;
  if (first < 0) {
    keep_order_of_calls();
    world = std::make_unique<NcclCommunicator>(hosts, nullptr, compute, scratch_bytes);
  } else {
    if (hosts.rank() == 0) {
      log_warning("ranks {} and {} share a GPU: all collectives pass through the hosts, which is slow", first,
                  second);
    }
    world = std::make_unique<StagedCommunicator>(hosts, nullptr, compute);
  }
  world->set_whereabouts(hosts.whereabouts());
  return world;
}

}  // namespace jevons::nccl
