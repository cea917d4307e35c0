// Memory of the GPU: single blocks, the pool's, and memory mapped into ranges of addresses.
#include <cuda.h>

#include <limits>

#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

int selected_gpu() {
  int gpu = 0;
  check(cudaGetDevice(&gpu), "cudaGetDevice");
  return gpu;
}

// Null if the GPU has none.
cudaMemPool_t pool() {
  cudaMemPool_t pool = nullptr;
  const cudaError_t error = cudaDeviceGetDefaultMemPool(&pool, selected_gpu());
  if (error == cudaErrorNotSupported) return nullptr;
  check(error, "cudaDeviceGetDefaultMemPool");
  return pool;
}

std::size_t unused_of(cudaMemPool_t pool) {
  if (pool == nullptr) return 0;
  std::uint64_t reserved = 0, used = 0;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
        "cudaMemPoolGetAttribute");
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used), "cudaMemPoolGetAttribute");
  return reserved - used;
}

// Gives what the pool holds and nothing uses back to the GPU; false if that is nothing.
bool trim_pool() {
  const cudaMemPool_t all = pool();
  if (unused_of(all) == 0) return false;
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // what is yet to be freed is in use
  check(cudaMemPoolTrimTo(all, 0), "cudaMemPoolTrimTo");
  return true;
}

void* allocated(void* memory, cudaError_t error, std::size_t bytes, const char* call) {
  if (error == cudaErrorMemoryAllocation) fail_for_memory(bytes);
  check(error, call);
  return memory;
}

// The driver's functions that map memory, looked up when the program runs: it links with no driver.
struct Driver {
  decltype(&cuDeviceGetAttribute) device_attribute = nullptr;
  decltype(&cuGetErrorName) error_name = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free_addresses = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  bool complete = true;

  Driver() {
    find("cuDeviceGetAttribute", device_attribute);
    find("cuGetErrorName", error_name);
    find("cuMemGetAllocationGranularity", granularity);
    find("cuMemAddressReserve", reserve);
    find("cuMemAddressFree", free_addresses);
    find("cuMemCreate", create);
    find("cuMemRelease", release);
    find("cuMemMap", map);
    find("cuMemUnmap", unmap);
    find("cuMemSetAccess", set_access);
  }

 private:
  template <class Function>
  void find(const char* name, Function& function) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    constexpr unsigned kVersion = 12000;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result);
#else
    const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
    if (error != cudaSuccess) cudaGetLastError();  // it is answered here
    complete = complete && error == cudaSuccess && result == cudaDriverEntryPointSuccess && found != nullptr;
    function = reinterpret_cast<Function>(found);
  }
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

void check(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  const char* name = nullptr;
  driver().error_name(result, &name);
  fail(ExitCode::kFailure, "{}: {}", call, name != nullptr ? name : "unknown error");
}

// Memory of the selected GPU that kernels read and write.
CUmemAllocationProp memory_kind() {
  CUmemAllocationProp kind{};
  kind.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  kind.location = {CU_MEM_LOCATION_TYPE_DEVICE, selected_gpu()};
  return kind;
}

CUresult create(CUmemGenericAllocationHandle& memory, std::size_t bytes) {
  const CUmemAllocationProp kind = memory_kind();
  return driver().create(&memory, bytes, &kind, 0);
}

}  // namespace

void keep_pool_memory() {
  std::uint64_t everything = std::numeric_limits<std::uint64_t>::max();
  const cudaMemPool_t all = pool();
  if (all == nullptr) return;
  check(cudaMemPoolSetAttribute(all, cudaMemPoolAttrReleaseThreshold, &everything),
        "cudaMemPoolSetAttribute");
}

void fail_for_memory(std::size_t bytes) {
  const device::MemoryInfo info = device::memory_info();
  throw device::OutOfMemory(fmt::format(
      "out of GPU memory: cannot allocate {} bytes, {} of {} are free and {} unused in this process's pool",
      bytes, info.free, info.total, info.pool_unused));
}

void* allocate(std::size_t bytes) {
  void* memory = nullptr;
  cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is answered here
    if (trim_pool()) error = cudaMalloc(&memory, bytes);
  }
  return allocated(memory, error, bytes, "cudaMalloc");
}

void deallocate(void* memory) noexcept {
  cudaFree(memory);
}

void* allocate_async(void* stream, std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocAsync(&memory, bytes, static_cast<cudaStream_t>(stream));
  return allocated(memory, error, bytes, "cudaMallocAsync");
}

void deallocate_async(void* stream, void* memory) noexcept {
  cudaFreeAsync(memory, static_cast<cudaStream_t>(stream));
}

std::size_t mapping_granularity() {
  if (!driver().complete) return 0;
  int supported = 0;
  check(driver().device_attribute(&supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                  selected_gpu()),
        "cuDeviceGetAttribute");
  if (supported == 0) return 0;
  std::size_t bytes = 0;
  const CUmemAllocationProp kind = memory_kind();
  check(driver().granularity(&bytes, &kind, CU_MEM_ALLOC_GRANULARITY_MINIMUM),
        "cuMemGetAllocationGranularity");
  return bytes;
}

void* reserve_addresses(std::size_t bytes) {
  CUdeviceptr range = 0;
  const CUresult result = driver().reserve(&range, bytes, 0, 0, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return nullptr;
  check(result, "cuMemAddressReserve");
  return reinterpret_cast<void*>(range);
}

bool map_memory(void* at, std::size_t bytes) {
  CUmemGenericAllocationHandle memory = 0;
  CUresult result = create(memory, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY && trim_pool()) result = create(memory, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return false;
  check(result, "cuMemCreate");
  const auto address = reinterpret_cast<CUdeviceptr>(at);
  result = driver().map(address, bytes, 0, memory, 0);
  driver().release(memory);  // it lives until it is unmapped
  check(result, "cuMemMap");
  const CUmemAccessDesc access{memory_kind().location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  check(driver().set_access(address, bytes, &access, 1), "cuMemSetAccess");
  return true;
}

void release_addresses(void* stream, void* range, std::size_t bytes,
                       std::span<const std::size_t> pieces) noexcept {
  cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  auto address = reinterpret_cast<CUdeviceptr>(range);
  for (const std::size_t piece : pieces) {
    driver().unmap(address, piece);
    address += piece;
  }
  driver().free_addresses(reinterpret_cast<CUdeviceptr>(range), bytes);
}

void* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "cudaMallocHost");
  return memory;
}

void deallocate_pinned(void* memory) noexcept {
  cudaFreeHost(memory);
}

}  // namespace jevons::cuda

namespace jevons::device {

MemoryInfo memory_info() {
  MemoryInfo info;
  cuda::check(cudaMemGetInfo(&info.free, &info.total), "cudaMemGetInfo");
  info.pool_unused = cuda::unused_of(cuda::pool());
  return info;
}

}  // namespace jevons::device
