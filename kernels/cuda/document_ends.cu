#include "kernels/cuda/document_ends.h"

#include "kernels/cuda/gpu.h"

namespace jevons::cuda {
namespace {

constexpr unsigned kThreads = 256;

// A thread per key: bisects the positions behind it.
__global__ void document_ends_kernel(std::int64_t rows, std::int64_t seq, const std::int32_t* starts,
                                     std::int32_t* ends) {
  const std::int64_t key = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (key >= rows) return;
  const std::int64_t first = key - key % seq;
  std::int64_t low = key % seq + 1, high = seq;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (starts[first + middle] > key % seq) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  ends[key] = static_cast<std::int32_t>(low);
}

}  // namespace

void document_ends(const Stream& stream, std::int64_t batch, std::int64_t seq, const std::int32_t* starts,
                   std::int32_t* ends) {
  const std::int64_t rows = batch * seq;
  if (rows == 0) return;
  launch(document_ends_kernel, dim3(static_cast<unsigned>((rows + kThreads - 1) / kThreads)), dim3(kThreads),
         0, static_cast<cudaStream_t>(stream.handle()), rows, seq, starts, ends);
}

}  // namespace jevons::cuda
