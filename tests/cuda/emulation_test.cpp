// The emulated device language and engine, and findings that a single thread can cause.
#include "kernels/core/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/cuda/gpu_bench.h"
#include "tests/cuda/planted.h"

namespace jevons::test {
namespace {

using emulation::Order;
using emulation::Settings;

std::string first_finding() {
  const std::vector<std::string> findings = emulation::take_findings();
  return findings.empty() ? "" : findings.front();
}

bool starts(const std::string& text, const std::string& with) {
  return text.rfind(with, 0) == 0;
}

}  // namespace

TEST_CASE("warp operations give what CUDA's do") {
  for (Order order : {Order::kNatural, Order::kReverse, Order::kRandom}) {
    const EmulationScope scope(Settings{.order = order});
    GpuBench gpu;
    const Tensor results = gpu.undefined({kWarpRows, 32}, DType::kI32);
    warp_operations(results.ptr<std::int32_t>(), cuda::native(gpu.stream));
    const std::int32_t* got = gpu.download(results).ptr<std::int32_t>();
    for (int lane = 0; lane < 32; ++lane) {
      const auto at = [&](WarpRow row) { return got[row * 32 + lane]; };
      CHECK(at(kShfl) == 4);
      CHECK(at(kShflXor) == (lane ^ 5) + 1);
      CHECK(at(kShflUp) == (lane % 16 < 2 ? lane : lane - 2) + 1);
      CHECK(at(kShflDown) == (lane % 16 >= 14 ? lane : lane + 2) + 1);
      CHECK(at(kBallot) == static_cast<std::int32_t>(0xaaaaaaaau));
      CHECK(at(kAnyAll) == 10);
      CHECK(at(kReduceAdd) == 528);
      CHECK(at(kReduceMax) == 32);
      CHECK(at(kReduceMin) == 1);
    }
  }
}

TEST_CASE("atomics of different blocks add up and do not race") {
  const EmulationScope scope(Settings{.order = Order::kRandom, .seed = 5});
  GpuBench gpu;
  KernelBench cpu;
  const Tensor cells =
      gpu.upload(cpu.filled({6}, DType::kI32, [](std::int64_t i) { return i == 5 ? -1.0 : 50.0; }));
  atomic_operations(cells.ptr<std::int32_t>(), 128, cuda::native(gpu.stream));
  const std::vector<double> got = to_doubles(gpu.download(cells));
  CHECK(got[0] == 50 + 127 * 64);
  CHECK(got[1] == 127);
  CHECK(got[2] == 0);
  CHECK(got[3] == 127);
  CHECK((got[4] >= 0 && got[4] < 128));
  CHECK((got[5] >= 0 && got[5] < 128));
  CHECK(first_finding() == "");
}

TEST_CASE("threads that wait for each other are a deadlock, told with places") {
  GpuBench gpu;
  deadlock(cuda::native(gpu.stream));
  CHECK_THROWS_AS(gpu.stream.synchronise(), Error);
  const std::string finding = first_finding();
  CHECK(starts(finding, "no thread can go on: 16 "));
  CHECK(finding.find("at __syncthreads planted.cu:") != std::string::npos);
}

TEST_CASE("memory that is freed, or the host's, is no device memory to a kernel") {
  GpuBench gpu;
  const cudaStream_t stream = cuda::native(gpu.stream);
  const Tensor cell = gpu.zeros({1}, DType::kF32);
  float host = 0;
  copy_cell({cell.ptr<float>(), cell.ptr<float>()}, stream);
  CHECK(first_finding() == "");
  if (!emulation::checking()) return;
  copy_cell({&host, cell.ptr<float>()}, stream);
  CHECK(starts(first_finding(), "device code touches host memory: read of host memory at planted.cu:"));
  const float* freed = nullptr;
  {
    const Buffer buffer(Device::kCuda, 64);
    freed = buffer.view(0, {1}, DType::kF32).ptr<float>();
  }
  EmulationScope open(Settings{.guard = false});
  copy_cell({freed, cell.ptr<float>()}, stream);
  CHECK(starts(first_finding(), "use after free: read of global memory at planted.cu:"));
}

TEST_CASE("launches beyond a GPU's limits are refused") {
  GpuBench gpu;
  const Tensor x = gpu.zeros({4}, DType::kF32);
  CHECK_THROWS_AS(scale_rows(x.ptr<float>(), 0, 4, 1.0f, Defect::kNone, cuda::native(gpu.stream)), Error);
  CHECK(starts(first_finding(), "launch with a grid"));
  CHECK_THROWS_AS(scale_rows(x.ptr<float>(), 1, 4, 1.0f, Defect::kNone, nullptr), Error);
  CHECK(starts(first_finding(), "work on the default stream"));
}

}  // namespace jevons::test
