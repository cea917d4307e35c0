// What only the MPI back end has: mpirun -n N test_mpi [fail]. With "fail" the last rank throws while the
// others wait for it, and the whole job must end with its exit code.
#include <fmt/core.h>

#include <cstring>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/mpi/mpi_session.h"

namespace jevons {

namespace {

void check_session(MpiSession& session) {
  ENSURE(!session.host().empty(), "no host name");
  ENSURE(session.local_size() == session.world().size() && session.local_rank() == session.world().rank(),
         "all ranks of this test run on one node");
}

void check_limits(Communicator& world) {
  // Refused before any memory is touched.
  const Shape shape{world.size(), std::int64_t{1} << 31};
  const Tensor huge{reinterpret_cast<void*>(std::uintptr_t{1} << 40), shape, DType::kU8, Device::kCpu};
  const Tensor other{reinterpret_cast<void*>(std::uintptr_t{1} << 41), shape, DType::kU8, Device::kCpu};
  const std::vector<std::int64_t> one_row(static_cast<std::size_t>(world.size()), 1);
  bool refused = false;
  try {
    world.all_to_all_v(huge, one_row, other, one_row).wait();
  } catch (const Error& error) {
    refused = std::strstr(error.what(), "more than the 2147483647 elements") != nullptr;
  }
  ENSURE(refused, "a count above INT_MAX must be refused clearly");
}

void fail_in_last_rank(Communicator& world) {
  const std::vector<int> everyone = [&] {
    std::vector<int> ranks;
    for (int r = 0; r < world.size(); ++r) ranks.push_back(r);
    return ranks;
  }();
  const auto group = world.split(everyone, "group");
  std::vector<float> values(1 << 20);
  const Tensor tensor{values.data(), {1 << 20}, DType::kF32, Device::kCpu};
  group->all_reduce(tensor).wait();  // large: makes the shared memory whose release is collective
  if (world.rank() == world.size() - 1) fail(ExitCode::kFailure, "rank {} fails on purpose", world.rank());
  group->all_reduce(tensor).wait();
}

int run(int argc, char** argv) {
  MpiSession session;
  Communicator& world = session.world();
  try {
    if (argc > 1 && std::strcmp(argv[1], "fail") == 0) fail_in_last_rank(world);
    check_session(session);
    if (world.size() > 1) check_limits(world);
  } catch (const Error& error) {
    fmt::print(stderr, "rank {}: {}\n", world.rank(), error.what());
    world.abort(static_cast<int>(error.code()));
  }
  return 0;
}

}  // namespace

}  // namespace jevons

int main(int argc, char** argv) {
  return jevons::run(argc, argv);
}
