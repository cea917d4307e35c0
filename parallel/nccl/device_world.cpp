#include "parallel/nccl/device_world.h"

#include <cstdlib>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/host_exchange.h"
#include "parallel/nccl/gpu_identity.h"
#include "parallel/nccl/nccl_communicator.h"
#include "parallel/nccl/staged_communicator.h"

namespace jevons::nccl {
namespace {

// Of every rank. Collective.
std::vector<GpuIdentity> identities(Communicator& hosts) {
  GpuIdentity mine = identity_of_gpu();
  return all_gather(hosts, std::span(&mine, 1));
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
  const auto [first, second] = ranks_of_one_gpu(identities(hosts));
  std::unique_ptr<Communicator> world;
  if (first < 0) {
    keep_order_of_calls();
    world = std::make_unique<NcclCommunicator>(hosts, compute, scratch_bytes);
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

int ranks_on_this_gpu(Communicator& hosts) {
  return ranks_in_memory_of(identities(hosts), hosts.rank());
}

}  // namespace jevons::nccl
