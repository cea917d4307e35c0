#include "trainer/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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

// Llama 3.1: long waves are stretched, short ones stay, between them it goes over.
double llama3_frequency(const RopeConfig& rope, double base) {
  const double turns = static_cast<double>(rope.original_seq_len) * base / (2 * std::numbers::pi);
  if (turns < rope.low_freq_factor) return base / rope.factor;
  if (turns > rope.high_freq_factor) return base;
  const double kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return base * ((1 - kept) / rope.factor + kept);
}

// YaRN (Peng et al., arXiv:2309.00071): pairs before `low` stay, those behind `high` are stretched.
struct YarnRamp {
  YarnRamp(const RopeConfig& rope, std::int64_t dim) {
    // The pair that makes so many turns within the original context, as a real number.
    const auto pair = [&](double turns) {
      const double waves = static_cast<double>(rope.original_seq_len) / (2 * std::numbers::pi * turns);
      return static_cast<double>(dim) * std::log(waves) / (2 * std::log(rope.theta));
    };
    low = pair(rope.beta_fast), high = pair(rope.beta_slow);
    if (rope.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, static_cast<double>(dim - 1));
    if (low == high) high += 0.001;
  }
  double stretched(std::int64_t pair) const {
    return std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  }
  double low, high;
};

double yarn_magnitude(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

double yarn_amplitude(const RopeConfig& rope) {
  if (rope.attention_factor > 0) return rope.attention_factor;
  if (rope.mscale == 0 || rope.mscale_all_dim == 0) return yarn_magnitude(rope.factor, 1);
  return yarn_magnitude(rope.factor, rope.mscale) / yarn_magnitude(rope.factor, rope.mscale_all_dim);
}

void scale(const RopeConfig& rope, std::int64_t dim, RopeFrequencies& frequencies) {
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return;
    case RopeScaling::kDynamic:
      // Stretched for sequences longer than the original context alone, which check() keeps out.
      return;
    case RopeScaling::kLinear:
      for (double& speed : frequencies.per_pair) speed /= rope.factor;
      return;
    case RopeScaling::kLlama3:
      for (double& speed : frequencies.per_pair) speed = llama3_frequency(rope, speed);
      return;
    case RopeScaling::kYarn:
      break;
  }
  const YarnRamp ramp(rope, dim);
  for (std::int64_t i = 0; i < std::ssize(frequencies.per_pair); ++i) {
    double& speed = frequencies.per_pair[static_cast<std::size_t>(i)];
    const double stretched = ramp.stretched(i);
    speed = speed / rope.factor * stretched + speed * (1 - stretched);
  }
  frequencies.amplitude = yarn_amplitude(rope);
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& config) {
  RopeFrequencies frequencies;
  const std::int64_t half = config.rope_dim() / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(half);
    frequencies.per_pair.push_back(std::pow(config.rope.theta, -turn));
  }
  scale(config.rope, config.rope_dim(), frequencies);
  return frequencies;
}

double softmax_scale(const ModelConfig& config) {
  const double scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  const RopeConfig& rope = config.rope;
  if (!config.mla.enabled() || rope.scaling != RopeScaling::kYarn || rope.mscale_all_dim == 0) return scale;
  const double magnitude = yarn_magnitude(rope.factor, rope.mscale_all_dim);
  return scale * magnitude * magnitude;
}

RopeTable::RopeTable(Device device, DType compute, std::int64_t positions, const RopeFrequencies& frequencies,
                     RopeLayout layout)
    : layout_(layout) {
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
