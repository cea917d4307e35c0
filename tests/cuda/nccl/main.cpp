// The checks of every communicator on emulated GPUs, one per rank of an MPI job: mpirun -n N test_nccl
// [dispatch], with the word those of the dispatcher alone.
// NCCL's stand-in carries the messages; NcclCommunicator, its streams, events and sums are the product's.
#include <fmt/core.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "parallel/mpi/mpi_session.h"
#include "parallel/nccl/device_world.h"
#include "tests/cuda/nccl/dispatch.h"
#include "tests/cuda/nccl/links.h"
#include "tests/cuda/nccl/round_trip.h"
#include "tests/cuda_emulation/control.h"
#include "tests/parallel/collectives.h"

namespace jevons {
namespace {

constexpr std::size_t kSmallScratch = 64 << 10;  // so that large sums take many pieces

void check_collectives(Communicator& hosts, std::size_t scratch_bytes) {
  Stream compute(Device::kCuda);
  const std::unique_ptr<Communicator> device = nccl::make_device_world(hosts, compute, scratch_bytes);
  test::RoundTrip world(*device, nullptr, compute);
  test::check_reductions(world);
  test::check_gathers(world);
  test::check_exchanges(world);
  test::check_empty_parts(world);
  test::check_overlaps(world);
  test::check_split(world);
  test::check_many_under_way(world);
  // Host tensors go past the device.
  std::vector<float> value{1};
  device->all_reduce({value.data(), {1}, DType::kF32, Device::kCpu}).wait();
  ENSURE(value[0] == static_cast<float>(hosts.size()), "{}", value[0]);
}

// A collective reads what the compute stream writes before it, and what follows on that stream reads its
// result; only events say so. Streams run in any legal order, so that one that is missing shows for some
// seed.
void check_order(Communicator& hosts, std::uint64_t seed) {
  emulation::configure({.streams = emulation::Streams::kRandom, .seed = seed});
  Stream compute(Device::kCuda);
  const std::unique_ptr<Communicator> device = nccl::make_device_world(hosts, compute);
  const Buffer memory(Device::kCuda, 4096), copy(Device::kCuda, 4096);
  const Tensor values = memory.view(0, {4096}, DType::kU8), later = copy.view(0, {4096}, DType::kU8);
  Buffer host = Buffer::pinned_for(Device::kCuda, 4096);
  const Tensor at_host = host.view(0, {4096}, DType::kU8);
  for (int round = 0; round < 3; ++round) {
    cuda::fill_async(compute.handle(), values.data, static_cast<std::uint8_t>(hosts.rank() + round), 4096);
    device->broadcast(values, hosts.size() - 1).wait();
    copy_async(&compute, later, values);
  }
  copy_async(&compute, at_host, later);
  compute.synchronise();
  for (std::uint8_t byte : at_host.span<std::uint8_t>())
    ENSURE(byte == hosts.size() - 1 + 2, "rank {} read {}", hosts.rank(), byte);
}

// A second communicator whose collectives may start before those of the first is found.
void check_order_of_communicators(Communicator& hosts) {
  if (hosts.size() == 1 || !emulation::emulated()) return;
  Stream compute(Device::kCuda);
  const std::unique_ptr<Communicator> device = nccl::make_device_world(hosts, compute);
  std::vector<int> ranks(static_cast<std::size_t>(hosts.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  for (const char* keeps : {"0", "1"}) {
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", keeps, 1);
    const std::unique_ptr<Communicator> second = device->split(ranks, "second");
    const auto found = emulation::take_findings().size();
    ENSURE(found == (*keeps == '0' ? 1U : 0U), "{} findings", found);
  }
}

void check_findings() {
  for (const std::string& finding : emulation::take_findings())
    fail(ExitCode::kFailure, "the emulated GPU found: {}", finding);
}

int run(bool everything) {
  MpiSession session;
  Communicator& hosts = session.world();
  try {
    device::select(session.local_rank());
    if (!everything) {
      emulation::configure({.streams = emulation::Streams::kLazy});
      test::check_dispatch(hosts);
      check_findings();
      return 0;
    }
    check_collectives(hosts, nccl::kScratchBytes);
    check_collectives(hosts, kSmallScratch);
    for (std::uint64_t seed = 1; seed <= 10; ++seed) check_order(hosts, seed);
    emulation::configure({.streams = emulation::Streams::kLazy});
    if (8 % hosts.size() == 0) test::check_dispatch(hosts);  // of 8 experts
    emulation::configure({});
    check_order_of_communicators(hosts);
    if (emulation::emulated()) test::check_links(hosts);
    if (hosts.size() > 1) {
      device::select(0);  // NCCL refuses; staged through the hosts
      check_collectives(hosts, nccl::kScratchBytes);
    }
    check_findings();
  } catch (const Error& error) {
    fmt::print(stderr, "rank {}: {}\n", hosts.rank(), error.what());
    hosts.abort(static_cast<int>(error.code()));
  }
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  return jevons::run(argc == 1 || std::strcmp(argv[1], "dispatch") != 0);
}
