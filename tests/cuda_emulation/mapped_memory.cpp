// The driver's functions that put memory behind reserved addresses, and how a program finds them: by name.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "control.h"
#include "device_memory.h"
#include "streams.h"

using namespace emulation;

namespace {

constexpr std::size_t kGranularity = std::size_t{2} << 20;

// Memory lives while its handle or a mapping of it does.
struct Memory {
  std::size_t bytes = 0;
  bool held = true;
  char* mapped_at = nullptr;
  bool accessible = false;
};
std::map<CUmemGenericAllocationHandle, Memory> memories;
CUmemGenericAllocationHandle last_handle = 0;

CUresult wrong(const char* what) {
  misuse(cudaErrorInvalidValue, what);
  return CUDA_ERROR_INVALID_VALUE;
}

bool whole(std::size_t bytes) {
  return bytes > 0 && bytes % kGranularity == 0;
}

char* address(CUdeviceptr p) {
  return reinterpret_cast<char*>(p);
}

void drop_if_unused(CUmemGenericAllocationHandle handle) {
  const Memory& memory = memories.at(handle);
  if (memory.held || memory.mapped_at != nullptr) return;
  return_device_bytes(memory.bytes);
  memories.erase(handle);
}

// The handle of what is mapped at `at`; 0 if nothing is.
CUmemGenericAllocationHandle mapping_at(const char* at) {
  const auto found = std::find_if(memories.begin(), memories.end(),
                                  [&](const auto& entry) { return entry.second.mapped_at == at; });
  return found == memories.end() ? 0 : found->first;
}

}  // namespace

extern "C" {

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_VALUE";
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  if (device < 0 || device >= settings().devices) return CUDA_ERROR_INVALID_DEVICE;
  if (attribute != CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)
    return wrong("cuDeviceGetAttribute: the emulation does not know the attribute");
  *value = settings().mapping ? 1 : 0;
  return CUDA_SUCCESS;
}
CUresult cuMemGetAllocationGranularity(size_t* bytes, const CUmemAllocationProp*,
                                       CUmemAllocationGranularity_flags) {
  *bytes = kGranularity;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* range, size_t bytes, size_t, CUdeviceptr, unsigned long long) {
  if (!whole(bytes)) return wrong("cuMemAddressReserve of what is no multiple of the granularity");
  *range = reinterpret_cast<CUdeviceptr>(reserve_range(bytes));
  return *range == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr range, size_t bytes) {
  if (!free_range(address(range), bytes))
    return wrong("cuMemAddressFree of what is no range, or has memory behind it");
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp* kind,
                     unsigned long long) {
  if (!whole(bytes)) return wrong("cuMemCreate of what is no multiple of the granularity");
  if (kind->type != CU_MEM_ALLOCATION_TYPE_PINNED || kind->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
    return wrong("cuMemCreate of memory that is not the GPU's");
  if (!take_device_bytes(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  *handle = ++last_handle;
  memories[*handle].bytes = bytes;
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  const auto known = memories.find(handle);
  if (known == memories.end() || !known->second.held) return wrong("cuMemRelease of what is no memory");
  known->second.held = false;
  drop_if_unused(handle);
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long) {
  const auto known = memories.find(handle);
  if (known == memories.end() || known->second.mapped_at != nullptr || known->second.bytes != bytes ||
      offset != 0)
    return wrong("cuMemMap of what is no memory of this size, or is mapped");
  char* const begin = address(at);
  const bool taken = std::any_of(memories.begin(), memories.end(), [&](const auto& entry) {
    const Memory& other = entry.second;
    return other.mapped_at != nullptr && other.mapped_at < begin + bytes &&
           begin < other.mapped_at + other.bytes;
  });
  if (taken || !in_range(begin, bytes))
    return wrong("cuMemMap to addresses that are not reserved, or in use");
  known->second.mapped_at = begin;
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes, const CUmemAccessDesc* access, size_t count) {
  const CUmemGenericAllocationHandle handle = mapping_at(address(at));
  if (handle == 0 || memories.at(handle).bytes != bytes || memories.at(handle).accessible)
    return wrong("cuMemSetAccess of what was not mapped as this");
  if (count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
    return wrong("cuMemSetAccess: the emulation knows reading and writing by one GPU");
  memories.at(handle).accessible = true;
  open_mapped(address(at), bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr at, size_t bytes) {
  const CUmemGenericAllocationHandle handle = mapping_at(address(at));
  if (handle == 0 || memories.at(handle).bytes != bytes)
    return wrong("cuMemUnmap of what was not mapped as this");
  if (memories.at(handle).accessible) close_mapped(address(at), bytes);
  memories.at(handle).mapped_at = nullptr;
  drop_if_unused(handle);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const std::map<std::string, void*> known = {
      {"cuGetErrorName", reinterpret_cast<void*>(&cuGetErrorName)},
      {"cuDeviceGetAttribute", reinterpret_cast<void*>(&cuDeviceGetAttribute)},
      {"cuMemGetAllocationGranularity", reinterpret_cast<void*>(&cuMemGetAllocationGranularity)},
      {"cuMemAddressReserve", reinterpret_cast<void*>(&cuMemAddressReserve)},
      {"cuMemAddressFree", reinterpret_cast<void*>(&cuMemAddressFree)},
      {"cuMemCreate", reinterpret_cast<void*>(&cuMemCreate)},
      {"cuMemRelease", reinterpret_cast<void*>(&cuMemRelease)},
      {"cuMemMap", reinterpret_cast<void*>(&cuMemMap)},
      {"cuMemUnmap", reinterpret_cast<void*>(&cuMemUnmap)},
      {"cuMemSetAccess", reinterpret_cast<void*>(&cuMemSetAccess)},
  };
  const auto found = known.find(name);
  *function = found == known.end() ? nullptr : found->second;
  *result = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
#if CUDART_VERSION < 12050
cudaError_t cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult* result) {
  return cudaGetDriverEntryPointByVersion(name, function, 0, flags, result);
}
#endif

}  // extern "C"
