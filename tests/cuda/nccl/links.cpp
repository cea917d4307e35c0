#include "tests/cuda/nccl/links.h"

#include <array>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "parallel/nccl/device_world.h"
#include "tests/cuda_emulation/control.h"

namespace jevons::test {
namespace {

// The GPUs of all ranks, and groups of all of them, made in good order: nothing fails before configure().
struct Gpus {
  explicit Gpus(Communicator& hosts, std::size_t scratch_bytes = nccl::kScratchBytes)
      : world(nccl::make_device_world(hosts, compute, scratch_bytes)) {
    std::vector<int> ranks(static_cast<std::size_t>(hosts.size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    a = world->split(ranks, "a");
    b = world->split(ranks, "b");
  }
  ~Gpus() { emulation::configure({}); }
  Gpus(const Gpus&) = delete;
  Gpus& operator=(const Gpus&) = delete;

  Tensor numbers(std::int64_t first, std::int64_t n) const {
    return memory.view(static_cast<std::size_t>(first) * sizeof(float), {n}, DType::kF32);
  }

  Tensor part(std::int64_t i) const { return numbers(i * 256, 4 * world->size()); }

  Stream compute{Device::kCuda};
  Buffer memory{Device::kCuda, 64 << 10};
  std::unique_ptr<Communicator> world, a, b;
};

template <class F>
void expect_failure(const std::string& words, F f) {
  try {
    f();
  } catch (const Error& error) {
    ENSURE(std::string_view(error.what()).find(words) == 0, "{} for {}", error.what(), words);
    return;
  }
  fail(ExitCode::kFailure, "no error where one should say: {}", words);
}

std::string over(const char* group, Communicator& hosts) {
  return fmt::format("over {}, rank {} of {}, ", group, hosts.rank(), hosts.size());
}

// What NCCL refuses is told with collective, communicator, rank and peer, and ends NCCL.
void check_refusals(Communicator& hosts) {
  const int peer = hosts.rank() == 0 ? 1 : 0;
  const auto check = [&](const std::string& call, const char* direction, const auto& f) {
    Gpus gpus(hosts);
    emulation::configure({.nccl_fails = 1});
    expect_failure(
        fmt::format("{} {}{} rank {}: NCCL: unhandled system error", call, over("a", hosts), direction, peer),
        [&] { f(*gpus.a, gpus.part(0), gpus.part(1)); });
    for (Communicator* group : {gpus.world.get(), gpus.a.get(), gpus.b.get()}) {
      expect_failure("broadcast over " + group->name(),
                     [&] { group->broadcast(gpus.numbers(0, 4), 0).wait(); });
    }
  };
  check("send or recv", "send to", [&](auto& group, Tensor t, Tensor) { group.send(t, peer).wait(); });
  check("send or recv", "recv from", [&](auto& group, Tensor t, Tensor) { group.recv(t, peer).wait(); });
  check("all_to_all_v", "send to",
        [&](auto& group, Tensor in, Tensor out) { group.all_to_all(in, out).wait(); });
}

// Messages of two communicators never end. The host that waits hears of it, and can leave: no memory that is
// freed and no stream that ends waits for them any more.
void check_broken_link(Communicator& hosts) {
  Gpus gpus(hosts);
  emulation::configure({.nccl_stalls = 1, .nccl_tells = 20});
  expect_failure("all_to_all_v " + over("a", hosts) +
                     "or a collective before it: NCCL: remote process exited or there was a network error",
                 [&] {
                   Work of_a = gpus.a->all_to_all(gpus.part(0), gpus.part(1));
                   Work of_b = gpus.b->all_to_all(gpus.part(2), gpus.part(3));
                   of_a.wait();
                   gpus.compute.synchronise();
                 });
}

// The same without a word from NCCL, for a worker that has to leave for another reason.
void check_cut(Communicator& hosts) {
  Gpus gpus(hosts);
  emulation::configure({.nccl_stalls = 1});
  gpus.a->all_to_all(gpus.part(0), gpus.part(1)).wait();
  gpus.b->all_to_all(gpus.part(2), gpus.part(3)).wait();
  ENSURE(gpus.compute.links()->cut(), "NCCL does not let go");
  gpus.compute.synchronise();
}

std::vector<float> read(const Gpus& gpus, const Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.numel()));
  copy_and_wait(&gpus.compute, {values.data(), t.shape, DType::kF32, Device::kCpu}, t);
  return values;
}

// A send that waits on one communicator keeps no collective of another from starting.
void check_send_beside_collective(Communicator& hosts) {
  Gpus gpus(hosts);
  const int ranks = hosts.size(), next = (hosts.rank() + 1) % ranks,
            before = (hosts.rank() + ranks - 1) % ranks;
  const Tensor sent = gpus.numbers(0, 100), received = gpus.numbers(256, 100), sum = gpus.numbers(512, 100);
  const std::vector<float> mine(100, static_cast<float>(hosts.rank() + 1));
  for (const Tensor& t : {sent, sum}) {
    copy_and_wait(&gpus.compute, t, {const_cast<float*>(mine.data()), {100}, DType::kF32, Device::kCpu});
  }
  Work send = gpus.a->send(sent, next), recv = gpus.a->recv(received, before);
  gpus.b->all_reduce(sum).wait();
  for (float value : read(gpus, sum))
    ENSURE(value == static_cast<float>(ranks * (ranks + 1) / 2), "{}", value);
  send.wait();
  recv.wait();
  for (float value : read(gpus, received)) ENSURE(value == static_cast<float>(before + 1), "{}", value);
}

// Sums travel in parts that begin on 16 bytes, whatever the number of ranks and the memory for pieces.
void check_alignment(Communicator& hosts) {
  Gpus gpus(hosts, 4040);
  const std::int64_t before = emulation::misaligned_messages(), ranks = hosts.size();
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kF64}) {
    const std::int64_t most = (std::int64_t{64} << 10) / static_cast<std::int64_t>(size_of(dtype));
    gpus.a->all_reduce(gpus.memory.view(0, {most - 1}, dtype)).wait();
    gpus.a->reduce_scatter_in_place(gpus.memory.view(0, {most / ranks / 64 * 64 * ranks}, dtype)).wait();
  }
  gpus.compute.synchronise();
  ENSURE(emulation::misaligned_messages() == before, "{} messages of sums begin between 16 bytes",
         emulation::misaligned_messages() - before);
}

void check_group_of_one(Communicator& hosts) {
  Gpus gpus(hosts);
  const int streams = emulation::live_streams();
  const auto alone = gpus.world->split(std::array{hosts.rank()}, "alone");
  ENSURE(emulation::live_streams() == streams, "a group of one has a stream of its own");
  const Tensor in = gpus.numbers(0, 8), out = gpus.numbers(64, 8);
  alone->all_to_all(in, out).wait();
  for (float value : read(gpus, out)) ENSURE(value == 0, "{}", value);
}

}  // namespace

void check_links(Communicator& hosts) {
  check_group_of_one(hosts);
  if (hosts.size() == 1) return;
  check_alignment(hosts);
  check_send_beside_collective(hosts);
  check_refusals(hosts);
  check_broken_link(hosts);
  check_cut(hosts);
}

}  // namespace jevons::test
