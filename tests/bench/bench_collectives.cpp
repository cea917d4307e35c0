// Our collectives against the bare MPI calls, interleaved in one job: mpirun -n N bench_collectives
// [repeats]. A sample is the time of the slowest rank; printed are medians and bare / ours (above 1: ours is
// faster). Sums are in rank order in ours and in an order of its own choosing in MPI's.
#include <fmt/core.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "kernels/core/memory.h"
#include "parallel/mpi/mpi_session.h"
#include "tests/bench/measure.h"

namespace jevons::bench {

namespace {

using Operation = std::function<void()>;

// Seconds that `operation` takes on the slowest rank.
double slowest(const Operation& operation) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = MPI_Wtime();
  operation();
  double seconds = MPI_Wtime() - begin;
  MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

void compare(Communicator& world, const std::string& name, int repeats, const Operation& ours,
             const Operation& bare) {
  std::vector<double> our_seconds, bare_seconds;
  for (int i = -2; i < repeats; ++i) {  // two to warm up
    const double our = slowest(ours), other = slowest(bare);
    if (i < 0) continue;
    our_seconds.push_back(our);
    bare_seconds.push_back(other);
  }
  const double our = median(our_seconds), other = median(bare_seconds);
  if (world.rank() == 0)
    fmt::print("{:<34} {:>10.3f} {:>10.3f} {:>8.2f}\n", name, our * 1e3, other * 1e3, other / our);
}

class Bench {
 public:
  Bench(Communicator& world, int repeats) : world_(world), repeats_(repeats) {}

  void all_to_all_v(std::int64_t bytes_per_peer) {
    const int n = world_.size();
    const std::int64_t cols = 1024, rows = bytes_per_peer / 4 / cols;  // a token's row of 4 KB
    const Tensor in = tensor(0, {rows * n, cols}), out = tensor(1, {rows * n, cols});
    const std::vector<std::int64_t> each(static_cast<std::size_t>(n), rows);
    const std::vector<int> counts(static_cast<std::size_t>(n), static_cast<int>(rows * cols));
    std::vector<int> begins;
    for (int r = 0; r < n; ++r) begins.push_back(r * counts[0]);
    compare(
        world_, fmt::format("all_to_all_v {} KB per peer", bytes_per_peer >> 10), repeats_,
        [&] { world_.all_to_all_v(in, each, out, each).wait(); },
        [&] {
          MPI_Alltoallv(in.data, counts.data(), begins.data(), MPI_FLOAT, out.data, counts.data(),
                        begins.data(), MPI_FLOAT, MPI_COMM_WORLD);
        });
  }

  void gradient_collectives(std::int64_t numel) {
    const std::int64_t part = numel / world_.size();
    const int count = static_cast<int>(part);
    const Tensor whole = tensor(0, {part * world_.size()}), shard = tensor(1, {part});
    const std::string size = fmt::format("{:.1f} MB", static_cast<double>(whole.bytes()) * 1e-6);
    compare(
        world_, "reduce_scatter " + size, repeats_, [&] { world_.reduce_scatter(whole, shard).wait(); },
        [&] { MPI_Reduce_scatter_block(whole.data, shard.data, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); });
    compare(
        world_, "all_gather " + size, repeats_, [&] { world_.all_gather(shard, whole).wait(); },
        [&] { MPI_Allgather(shard.data, count, MPI_FLOAT, whole.data, count, MPI_FLOAT, MPI_COMM_WORLD); });
    const int all = count * world_.size();
    compare(
        world_, "all_reduce " + size, repeats_, [&] { world_.all_reduce(whole).wait(); },
        [&] { MPI_Allreduce(MPI_IN_PLACE, whole.data, all, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); });
  }

 private:
  Tensor tensor(int slot, Shape shape) {
    Buffer& buffer = buffers_[slot];
    buffer = Buffer(Device::kCpu, static_cast<std::size_t>(shape.numel()) * 4);
    return buffer.view(0, shape, DType::kF32);
  }

  Communicator& world_;
  int repeats_;
  Buffer buffers_[2];
};

}  // namespace

}  // namespace jevons::bench

int main(int argc, char** argv) {
  jevons::MpiSession session;
  jevons::Communicator& world = session.world();
  const int repeats = argc > 1 ? std::max(1, std::atoi(argv[1])) : 31;
  if (world.rank() == 0) {
    fmt::print("{} ranks, {} samples\n", world.size(), repeats);
    fmt::print("{:<34} {:>10} {:>10} {:>8}\n", "", "ours ms", "bare ms", "ratio");
  }
  jevons::bench::Bench bench(world, repeats);
  for (std::int64_t kilobytes : {64, 256, 1024, 4096, 16384}) bench.all_to_all_v(kilobytes << 10);
  for (std::int64_t numel : {4096, 16384, 65536, 262144, 13'800'000}) bench.gradient_collectives(numel);
  return 0;
}
