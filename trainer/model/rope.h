// Rotary position embedding as data (Su et al., arXiv:2104.09864): how fast every pair of dims turns, and the
// tables that all layers share. A way of stretching the context is another list of frequencies.
#pragma once

#include <vector>

#include "kernels/core/memory.h"
#include "trainer/model/model_config.h"

namespace jevons {

struct RopeFrequencies {
  std::vector<double> per_pair;  // (d / 2) radians per position of pair i
  double amplitude = 1;          // factor of all cosines and sines
};

// Of the rotated columns of a head, config.rope_dim() of them, by config.rope: ways of scaling are those of
// Hugging Face transformers, in double where that computes in float.
RopeFrequencies rope_frequencies(const ModelConfig& config);
// What multiplies q k^T: head_dim^(-1/2); under YaRN, MLA's scores are also multiplied by the square of
// 0.1 mscale_all_dim ln(factor) + 1.
double softmax_scale(const ModelConfig& config);

// Owns cosines and sines of positions 0 .. n-1. The same bits on every device: they are computed on the host.
class RopeTable {
 public:
  // In the accumulator dtype of `compute`.
  RopeTable(Device device, DType compute, std::int64_t positions, const RopeFrequencies& frequencies,
            RopeLayout layout = RopeLayout::kHalf);

  Tensor cos() const { return cos_; }  // (n, d / 2)
  Tensor sin() const { return sin_; }
  Rotation at(Tensor positions) const { return {positions, cos_, sin_, layout_}; }

 private:
  Buffer buffer_;
  Tensor cos_, sin_;
  RopeLayout layout_;
};

}  // namespace jevons
