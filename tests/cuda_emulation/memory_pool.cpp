// The default memory pool of the emulated GPU, of this process: cudaMallocAsync and cudaFreeAsync. What is
// freed stays the pool's up to the release threshold; past it a real pool gives it back when the host
// synchronises, this one at once. Every allocation has an address of its own all the same (device_memory.h).
#include <cuda_runtime_api.h>

#include <algorithm>

#include "control.h"
#include "device_memory.h"
#include "streams.h"

using namespace emulation;

struct CUmemPoolHandle_st {
  std::uint64_t threshold = 0, reserved = 0, used = 0;  // bytes
};

namespace {

CUmemPoolHandle_st the_pool;

bool take(std::size_t bytes) {
  const std::uint64_t reserved = std::max(the_pool.reserved, the_pool.used + bytes);
  if (!take_device_bytes(reserved - the_pool.reserved)) return false;
  the_pool.reserved = reserved;
  the_pool.used += bytes;
  return true;
}

void give_back(std::size_t bytes) {
  the_pool.used -= bytes;
  const std::uint64_t kept = std::max(the_pool.used, std::min(the_pool.reserved, the_pool.threshold));
  return_device_bytes(the_pool.reserved - kept);
  the_pool.reserved = kept;
}

// The attribute's value; null for one that the emulation does not know.
std::uint64_t* value_of(cudaMemPool_t pool, cudaMemPoolAttr attribute) {
  switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
      return &pool->threshold;
    case cudaMemPoolAttrReservedMemCurrent:
      return &pool->reserved;
    case cudaMemPoolAttrUsedMemCurrent:
      return &pool->used;
    default:
      return nullptr;
  }
}

}  // namespace

extern "C" {

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
  if (!settings().pools) return cudaErrorNotSupported;
  *pool = &the_pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute != cudaMemPoolAttrReleaseThreshold)
    return misuse(cudaErrorInvalidValue,
                  "cudaMemPoolSetAttribute: of these only the release threshold can be set");
  pool->threshold = *static_cast<std::uint64_t*>(value);
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const std::uint64_t* const known = value_of(pool, attribute);
  if (known == nullptr)
    return misuse(cudaErrorInvalidValue,
                  "cudaMemPoolGetAttribute: the emulation does not know the attribute");
  *static_cast<std::uint64_t*>(value) = *known;
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t kept) {
  const std::uint64_t left =
      std::max<std::uint64_t>(pool->used, std::min<std::uint64_t>(pool->reserved, kept));
  return_device_bytes(pool->reserved - left);
  pool->reserved = left;
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  *memory = nullptr;
  if (!settings().pools) return cudaErrorNotSupported;
  if (!take(bytes)) return cudaErrorMemoryAllocation;
  void* const address = allocate_pooled(bytes, next_operation());
  if (address == nullptr) {
    give_back(bytes);
    return cudaErrorMemoryAllocation;
  }
  *memory = address;
  return enqueue(stream, [=] {
    begin_pooled(address, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const std::size_t bytes = release_pooled(memory);
  if (bytes == 0) return misuse(cudaErrorInvalidValue, "cudaFreeAsync of what cudaMallocAsync did not give");
  give_back(bytes);
  return enqueue(stream, [=] {
    end_pooled(memory, bytes);
    return cudaSuccess;
  });
}

}  // extern "C"
