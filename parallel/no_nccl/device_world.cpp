// Collectives between GPUs in a program that has none.
#include "parallel/nccl/device_world.h"

#include "kernels/core/error.h"

namespace jevons::nccl {

std::unique_ptr<Communicator> make_device_world(Communicator&, Stream&, std::size_t) {
  fail(ExitCode::kFailure, "collectives between GPUs are not part of this build");
}

int ranks_on_this_gpu(Communicator&) {
  fail(ExitCode::kFailure, "this build has no CUDA back end");
}

std::string version() {
  return "none";
}

}  // namespace jevons::nccl
