#include "kernels/cuda/gpu.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

// Stands for all kernels, which are compiled for the same architectures.
__global__ void probe_kernel() {}

}  // namespace

bool has_device_code() {
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(probe_kernel));
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) return false;
  check(error, "cudaFuncGetAttributes");
  return true;
}

}  // namespace jevons::cuda
