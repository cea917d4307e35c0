#include "tests/bench/gpu_exchange.h"

#include <fmt/core.h>

#include <chrono>
#include <functional>
#include <memory>

#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "parallel/mpi/mpi_session.h"
#include "parallel/nccl/device_world.h"

namespace jevons {
namespace {

// Collectives of one size, `bytes` for each peer.
class Exchange {
 public:
  Exchange(Communicator& hosts, Communicator& world, Stream& stream, std::int64_t bytes)
      : hosts_(hosts),
        world_(world),
        stream_(stream),
        bytes_(bytes),
        all_buffer_(Device::kCuda, static_cast<std::size_t>(hosts.size() * bytes)),
        other_buffer_(Device::kCuda, all_buffer_.bytes()),
        part_buffer_(Device::kCuda, static_cast<std::size_t>(bytes)) {}

  // GB/s that leave a GPU.
  double all_to_all() const {
    return rate([&] { world_.all_to_all(floats(all_buffer_), floats(other_buffer_)).wait(); });
  }
  double reduce_scatter() const {
    return rate([&] { world_.reduce_scatter(floats(all_buffer_), floats(part_buffer_)).wait(); });
  }
  double all_gather() const {
    return rate([&] { world_.all_gather(floats(part_buffer_), floats(all_buffer_)).wait(); });
  }

 private:
  static Tensor floats(const Buffer& buffer) {
    return buffer.view(0, {static_cast<std::int64_t>(buffer.bytes() / sizeof(float))}, DType::kF32);
  }

  // Bytes that leave a rank, over the time of the slowest.
  double rate(const std::function<void()>& op) const {
    constexpr int kCalls = 20;
    op();
    stream_.synchronise();
    hosts_.barrier();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) op();
    stream_.synchronise();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    hosts_.all_reduce({&seconds, {1}, DType::kF64, Device::kCpu}, ReduceOp::kMax).wait();
    return static_cast<double>((hosts_.size() - 1) * bytes_) * kCalls / seconds * 1e-9;
  }

  Communicator& hosts_;
  Communicator& world_;
  Stream& stream_;
  std::int64_t bytes_;
  Buffer all_buffer_, other_buffer_, part_buffer_;
};

void print_rates(Communicator& hosts, std::int64_t peer_bytes) {
  Stream stream(Device::kCuda);
  const std::unique_ptr<Communicator> world = nccl::make_device_world(hosts, stream);
  if (hosts.rank() == 0) {
    fmt::print(
        "\n## Collectives of {} GPUs\n\nGB/s that leave a GPU.\n\n"
        "| MB per peer | all-to-all | reduce-scatter (fp32) | all-gather |\n|---|---|---|---|\n",
        hosts.size());
  }
  for (std::int64_t bytes = peer_bytes / 64; bytes <= peer_bytes; bytes *= 8) {
    const Exchange exchange(hosts, *world, stream, bytes);
    const double to_all = exchange.all_to_all(), scatter = exchange.reduce_scatter(),
                 gather = exchange.all_gather();
    if (hosts.rank() == 0) {
      fmt::print("| {:.2f} | {:.1f} | {:.1f} | {:.1f} |\n", static_cast<double>(bytes) * 1e-6, to_all,
                 scatter, gather);
    }
  }
}

}  // namespace

int run_exchange(std::int64_t peer_bytes) {
  MpiSession session;
  Communicator& hosts = session.world();
  try {
    device::select(session.local_rank() % device::availability().devices);
    print_rates(hosts, peer_bytes);
  } catch (const Error& error) {
    fmt::print(stderr, "rank {}: {}\n", hosts.rank(), error.what());
    hosts.abort(static_cast<int>(error.code()));
  }
  return 0;
}

}  // namespace jevons
