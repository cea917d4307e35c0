#include "trainer/model/rope.h"

#include <cmath>

#include "kernels/core/stream.h"

namespace jevons {
namespace {

template <class A>
void fill(const RopeFrequencies& frequencies, Tensor cosines, Tensor sines) {
  const std::int64_t half = cosines.cols();
  for (std::int64_t position = 0; position < cosines.rows(); ++position) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies.per_pair[static_cast<std::size_t>(i)];
      cosines.ptr<A>()[position * half + i] = static_cast<A>(frequencies.amplitude * std::cos(angle));
      sines.ptr<A>()[position * half + i] = static_cast<A>(frequencies.amplitude * std::sin(angle));
    }
  }
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& config) {
  RopeFrequencies frequencies;
  const std::int64_t half = config.head_dim / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(half);
    frequencies.per_pair.push_back(std::pow(config.rope_theta, -turn));
  }
  return frequencies;
}

RopeTable::RopeTable(Device device, DType compute, std::int64_t positions,
                     const RopeFrequencies& frequencies) {
  const DType dtype = accumulator_of(compute);
  const Shape shape{2 * positions, std::ssize(frequencies.per_pair)};
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  buffer_ = Buffer(device, bytes);
  const Tensor both = buffer_.view(0, shape, dtype);
  cos_ = both.slice(0, positions);
  sin_ = both.slice(positions, 2 * positions);
  if (device == Device::kMeta) return;
  const Buffer memory(Device::kCpu, bytes, Contents::kUndefined);
  const Tensor host = memory.view(0, shape, dtype);
  const Tensor cosines = host.slice(0, positions), sines = host.slice(positions, 2 * positions);
  if (dtype == DType::kF64) {
    fill<double>(frequencies, cosines, sines);
  } else {
    fill<float>(frequencies, cosines, sines);
  }
  const Stream stream(device);
  copy_and_wait(&stream, both, host);
}

}  // namespace jevons
