// Waiting for a stream whose work needs other processes; the emulated GPU alone can be made to wait for ever.
#include "kernels/core/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/cuda/gpu_bench.h"
#include "tests/cuda_emulation/streams.h"

namespace jevons::test {
namespace {

struct Links final : DeviceLinks {
  void check() override {
    ++asked;
    if (broken) fail(ExitCode::kFailure, "the link is broken");
  }
  bool cut() noexcept override { return true; }
  int asked = 0;
  bool broken = false;
};

}  // namespace

TEST_CASE("a host that waits for a stream hears of a link that breaks") {
  GpuBench gpu;
  Links links;
  bool arrived = false;
  emulation::enqueue(cuda::native(gpu.stream), [&] { return arrived ? cudaSuccess : cudaErrorNotReady; });
  gpu.stream.set_links(&links);
  links.broken = true;
  CHECK_THROWS_WITH(gpu.stream.synchronise(), "the link is broken");
  CHECK(links.asked == 1);
  arrived = true;
  gpu.stream.synchronise();
  gpu.stream.set_links(nullptr);
}

TEST_CASE("a wait that ends is one wait, however often the host looks") {
  GpuBench gpu;
  Links links;
  int looks = 0;
  emulation::enqueue(cuda::native(gpu.stream), [&] { return ++looks > 3 ? cudaSuccess : cudaErrorNotReady; });
  gpu.stream.set_links(&links);
  const std::int64_t before = emulation::host_waits();
  gpu.stream.synchronise();
  CHECK(looks == 4);
  CHECK(emulation::host_waits() == before + 1);
  gpu.stream.set_links(nullptr);
}

TEST_CASE("a stream has the priority that it was made with") {
  const Stream usual(Device::kCuda), high(Device::kCuda, StreamPriority::kHighest);
  CHECK(emulation::priority_of(cuda::native(usual)) == 0);
  CHECK(emulation::priority_of(cuda::native(high)) == emulation::kHighestPriority);
}

}  // namespace jevons::test
