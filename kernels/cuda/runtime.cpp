#include "kernels/cuda/runtime.h"

#include <cstdlib>

#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"

namespace jevons::cuda {
namespace {

cudaMemcpyKind native(CopyKind kind) {
  switch (kind) {
    case CopyKind::kHostToDevice:
      return cudaMemcpyHostToDevice;
    case CopyKind::kDeviceToHost:
      return cudaMemcpyDeviceToHost;
    case CopyKind::kDeviceToDevice:
      return cudaMemcpyDeviceToDevice;
  }
  return cudaMemcpyDefault;
}

cudaStream_t as_stream(void* handle) {
  return static_cast<cudaStream_t>(handle);
}
cudaEvent_t as_event(void* handle) {
  return static_cast<cudaEvent_t>(handle);
}

// Streams beyond the connections to the GPU, 8 unless it is told otherwise, wait for each other. The driver
// reads this when it first makes a context.
void share_no_connections() {
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

}  // namespace

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  fail(ExitCode::kFailure, "{}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

cudaStream_t native(const Stream& stream) {
  return as_stream(stream.handle());
}

cudaStream_t stream_of(const Context& ctx) {
  ENSURE(ctx.stream != nullptr && ctx.stream->handle() != nullptr,
         "work on CUDA needs a stream in its context");
  return native(*ctx.stream);
}

void* create_stream(StreamPriority priority) {
  int lowest = 0, highest = 0;  // the usual one is 0, higher ones are negative
  check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                     priority == StreamPriority::kHighest ? highest : 0),
        "cudaStreamCreateWithPriority");
  return stream;
}

void destroy_stream(void* stream) noexcept {
  cudaStreamSynchronize(as_stream(stream));
  cudaStreamDestroy(as_stream(stream));
}

void synchronise_stream(void* stream) {
  check(cudaStreamSynchronize(as_stream(stream)), "cudaStreamSynchronize");
}

bool is_idle(void* stream) {
  const cudaError_t state = cudaStreamQuery(as_stream(stream));
  if (state == cudaErrorNotReady) return false;
  check(state, "cudaStreamQuery");
  return true;
}

void* create_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return event;
}

void destroy_event(void* event) noexcept {
  cudaEventDestroy(as_event(event));
}

void record_event(void* event, void* stream) {
  check(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
}

void wait_event(void* stream, void* event) {
  check(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0), "cudaStreamWaitEvent");
}

void synchronise_event(void* event) {
  check(cudaEventSynchronize(as_event(event)), "cudaEventSynchronize");
}

void copy_async(void* stream, void* to, const void* from, std::size_t bytes, CopyKind kind) {
  check(cudaMemcpyAsync(to, from, bytes, native(kind), as_stream(stream)), "cudaMemcpyAsync");
}

void fill_async(void* stream, void* memory, std::uint8_t value, std::size_t bytes) {
  check(cudaMemsetAsync(memory, value, bytes, as_stream(stream)), "cudaMemsetAsync");
}

}  // namespace jevons::cuda

namespace jevons::device {

using cuda::check;

Availability availability() noexcept {
  int driver = 0, runtime = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return {0, "no CUDA driver"};
  cudaRuntimeGetVersion(&runtime);
  if (driver / 1000 < runtime / 1000) {
    return {0, fmt::format("the driver is for CUDA {}.{}, this program needs {}.{}", driver / 1000,
                           driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10)};
  }
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return {0, cudaGetErrorString(error)};
  if (devices == 0) return {0, "no GPU"};
  return {devices, ""};
}

std::string name(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties.name;
}

std::string obstacle(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  cudaDeviceProp gpu{};
  check(cudaGetDeviceProperties(&gpu, index), "cudaGetDeviceProperties");
  const std::string what =
      fmt::format("GPU {}, {}, compute capability {}.{}", index, gpu.name, gpu.major, gpu.minor);
  if (!cuda::has_device_code()) {
    return fmt::format("{}: this program has no code for it; build it with -DJEVONS_CUDA_ARCHITECTURES={}{}",
                       what, gpu.major, gpu.minor);
  }
  if (gpu.memoryPoolsSupported == 0 && cuda::mapping_granularity() == 0)
    return what + ": its driver has neither mapped memory (cuMemMap) nor memory pools (cudaMallocAsync)";
  return "";
}

void select(int index) {
  cuda::share_no_connections();
  const std::string reason = obstacle(index);
  if (!reason.empty()) fail(ExitCode::kUsage, "{}; use another GPU, or device: cpu", reason);
  cuda::keep_pool_memory();
}

}  // namespace jevons::device
