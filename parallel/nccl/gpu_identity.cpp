#include "parallel/nccl/gpu_identity.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/host_name.h"

namespace jevons::nccl {
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess)
    fail(ExitCode::kFailure, "which GPU is selected cannot be told: {}", cudaGetErrorString(error));
}

// Its name where the kernel does not tell which boot this is.
std::string identity_of_host() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  if (!id.empty()) return id;
  return host_name();
}

bool known(const GpuIdentity& gpu) {
  return gpu.uuid != decltype(gpu.uuid){};
}

bool same_slot(const GpuIdentity& a, const GpuIdentity& b) {
  return a.host == b.host && a.bus == b.bus;
}

bool share(const GpuIdentity& a, const GpuIdentity& b) {
  return (known(a) && a.uuid == b.uuid) || same_slot(a, b);
}

bool share_memory(const GpuIdentity& a, const GpuIdentity& b) {
  return known(a) && known(b) ? a.uuid == b.uuid : same_slot(a, b);
}

}  // namespace

GpuIdentity identity_of_gpu() {
  GpuIdentity identity;
  const std::string host = identity_of_host();
  std::copy_n(host.begin(), std::min(host.size(), identity.host.size() - 1), identity.host.begin());
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetPCIBusId(identity.bus.data(), static_cast<int>(identity.bus.size()), device));
  cudaDeviceProp gpu{};
  check(cudaGetDeviceProperties(&gpu, device));
  static_assert(sizeof gpu.uuid.bytes == sizeof identity.uuid);
  std::memcpy(identity.uuid.data(), gpu.uuid.bytes, sizeof identity.uuid);
  return identity;
}

std::pair<int, int> ranks_of_one_gpu(std::span<const GpuIdentity> by_rank) {
  for (std::size_t higher = 1; higher < by_rank.size(); ++higher) {
    for (std::size_t lower = 0; lower < higher; ++lower) {
      if (share(by_rank[lower], by_rank[higher])) return {static_cast<int>(lower), static_cast<int>(higher)};
    }
  }
  return {-1, -1};
}

int ranks_in_memory_of(std::span<const GpuIdentity> by_rank, int rank) {
  const GpuIdentity& mine = by_rank[static_cast<std::size_t>(rank)];
  return static_cast<int>(
      std::ranges::count_if(by_rank, [&](const GpuIdentity& gpu) { return share_memory(gpu, mine); }));
}

}  // namespace jevons::nccl
