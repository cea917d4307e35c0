// How the T rows of a micro-batch form sequences: what layers whose rows see one another are told of it.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace jevons {

struct Sequences {
  std::int64_t length = 0;  // row t is position t % length of sequence t / length
  Tensor positions;         // (T) i32: t % length
  Tensor doc_start;         // (T) i32: first position that row t may see; undefined = 0
};

}  // namespace jevons
