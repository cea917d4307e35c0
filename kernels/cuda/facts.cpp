// What doctor says of the GPUs and their libraries, and the ranges of a profiler.
#include <cublasLt.h>
#include <cudnn.h>
#include <nvtx3/nvToolsExt.h>

#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

// 13020 is CUDA 13.2.
std::string cuda_version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string describe(int index) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
  return fmt::format("{}: {}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB", index, p.name,
                     p.major, p.minor, p.multiProcessorCount,
                     static_cast<double>(p.totalGlobalMem) / (1 << 30));
}

// Atomics between GPUs work over NVLink and not over PCI Express.
std::string describe_links(int gpus) {
  int pairs = 0, reachable = 0, nvlink = 0;
  for (int a = 0; a < gpus; ++a) {
    for (int b = a + 1; b < gpus; ++b) {
      int peer = 0, atomic = 0;
      check(cudaDeviceGetP2PAttribute(&peer, cudaDevP2PAttrAccessSupported, a, b),
            "cudaDeviceGetP2PAttribute");
      check(cudaDeviceGetP2PAttribute(&atomic, cudaDevP2PAttrNativeAtomicSupported, a, b),
            "cudaDeviceGetP2PAttribute");
      ++pairs, reachable += peer, nvlink += atomic;
    }
  }
  if (pairs == 0) return {};
  return fmt::format("of {} pairs of GPUs {} reach each other's memory, {} over NVLink", pairs, reachable,
                     nvlink);
}

}  // namespace

void begin_range(const char* name) noexcept {
  nvtxRangePushA(name);
}

void end_range() noexcept {
  nvtxRangePop();
}

}  // namespace jevons::cuda

namespace jevons::device {

using cuda::check;

Facts facts() {
  int driver = 0, runtime = 0, gpus = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  check(cudaGetDeviceCount(&gpus), "cudaGetDeviceCount");
  const std::size_t cublas = cublasLtGetVersion(), cudnn = cudnnGetVersion();
  Facts facts;
  facts.versions = {{"driver for CUDA", cuda::cuda_version(driver)},
                    {"CUDA", cuda::cuda_version(runtime)},
                    {"cuBLASLt", fmt::format("{}.{}.{}", cublas / 10000, cublas % 10000 / 100, cublas % 100)},
                    {"cuDNN", fmt::format("{}.{}.{}", cudnn / 10000, cudnn % 10000 / 100, cudnn % 100)}};
  for (int i = 0; i < gpus; ++i) facts.gpus.push_back(cuda::describe(i));
  facts.links = cuda::describe_links(gpus);
  return facts;
}

}  // namespace jevons::device
