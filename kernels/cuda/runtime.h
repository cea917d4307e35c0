// For files of the CUDA back end: checked calls, and the CUDA types behind opaque handles.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/core/context.h"

namespace jevons::cuda {

// Throws Error(kFailure) with the call and CUDA's words for `error`, unless it is cudaSuccess.
void check(cudaError_t error, const char* call);

// Whether this program has kernels for the architecture of the selected GPU.
bool has_device_code();

// By default the selected GPU's pool gives its unused memory back whenever the host synchronises, and must
// ask for it again; from now on it keeps it.
void keep_pool_memory();

// The stream that an op's work goes to.
cudaStream_t native(const Stream& stream);
cudaStream_t stream_of(const Context& ctx);

}  // namespace jevons::cuda
