// The functions of the CUDA runtime that the product calls, as strict as the documents allow: sides of copies
// must be the memory that the kind says, host memory of asynchronous copies must be pinned, the default
// stream is refused.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "checker.h"
#include "control.h"
#include "device_memory.h"
#include "streams.h"

using namespace emulation;

namespace {

int current_device = 0;
std::int64_t waits = 0;

bool has_driver() {
  return settings().devices > 0;
}

// Every GPU of the world has a UUID of its own.
std::string boot_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

bool host_side(const void* p, size_t bytes) {
  return in_pinned(p, bytes);
}

cudaError_t check_sides(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (!(to_device ? on_device(to, bytes) : host_side(to, bytes))) {
    return misuse(cudaErrorInvalidValue, std::string("cudaMemcpyAsync to what is not ") +
                                             (to_device ? "device" : "pinned") + " memory, or too short");
  }
  if (!(from_device ? on_device(from, bytes) : host_side(from, bytes))) {
    return misuse(cudaErrorInvalidValue, std::string("cudaMemcpyAsync from what is not ") +
                                             (from_device ? "device" : "pinned") + " memory, or too short");
  }
  return cudaSuccess;
}

}  // namespace

std::int64_t emulation::host_waits() {
  return waits;
}

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  *version = has_driver() ? CUDART_VERSION : 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = settings().devices;
  return has_driver() ? cudaSuccess : cudaErrorInsufficientDriver;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  properties->totalGlobalMem = settings().memory;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->memoryPoolsSupported = settings().pools ? 1 : 0;
  (std::to_string(device) + " " + boot_id()).copy(properties->uuid.bytes, sizeof properties->uuid.bytes);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  return settings().code ? cudaSuccess : cudaErrorNoKernelImageForDevice;
}
cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr, int, int) {
  *value = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int device) {
  if (device < 0 || device >= settings().devices) return cudaErrorInvalidDevice;
  std::snprintf(id, static_cast<size_t>(bytes), "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = settings().memory;
  *free = *total - std::min(*total, device_bytes_in_use());
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = allocate_device(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : last_error();
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return last_error();
  finish_all_streams();
  return free_device(memory) ? last_error()
                             : misuse(cudaErrorInvalidValue, "cudaFree of what cudaMalloc did not give");
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = allocate_pinned(bytes);
  return last_error();
}
cudaError_t cudaFreeHost(void* memory) {
  finish_all_streams();
  return free_pinned(memory)
             ? last_error()
             : misuse(cudaErrorInvalidValue, "cudaFreeHost of what cudaMallocHost did not give");
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t error = check_sides(to, from, bytes, kind)) return error;
  return enqueue(stream, [=] {
    check_operation_access(from, bytes, Access::kRead);
    check_operation_access(to, bytes, Access::kWrite);
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  if (!on_device(memory, bytes))
    return misuse(cudaErrorInvalidValue, "cudaMemsetAsync outside device memory");
  return enqueue(stream, [=] {
    check_operation_access(memory, bytes, Access::kWrite);
    std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* lowest, int* highest) {
  *lowest = 0;
  *highest = kHighestPriority;
  return last_error();
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (flags != cudaStreamNonBlocking)
    return misuse(cudaErrorInvalidValue, "a stream that waits for the default stream");
  *stream = create_stream(std::clamp(priority, kHighestPriority, 0));
  return last_error();
}
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  *priority = priority_of(stream);
  return last_error();
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  destroy_stream(stream);
  return last_error();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ++waits;
  return synchronise(stream);
}
// A host that asks until it hears yes has waited.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (!idle(stream)) return cudaErrorNotReady;
  ++waits;
  return last_error();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return wait_for(stream, event);
}
cudaError_t cudaDeviceSynchronize() {
  ++waits;
  finish_all_streams();
  return last_error();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = create_event();
  return last_error();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  destroy_event(event);
  return last_error();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return record(event, stream);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ++waits;
  return synchronise(event);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!reached(event)) return cudaErrorNotReady;
  ++waits;
  return last_error();
}

// A failed launch stays until take_findings(), as a real one stays until the process ends.
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error();
  if (error != cudaErrorLaunchFailure) clear_error();
  return error;
}
cudaError_t cudaPeekAtLastError() {
  return last_error();
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}
}
