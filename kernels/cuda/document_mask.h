// The document mask as cuDNN takes it: a matrix that is added to the scores of a sequence.
#pragma once

#include <cstdint>

#include "kernels/core/stream.h"
#include "kernels/core/tensor.h"

namespace jevons::cuda {

// starts (sequences * seq) i32: for every query the first position that it may see. mask (sequences, seq,
// row) bf16, row >= seq: 0 where the query may see the key, else a number so low that its exponential is 0.
// Finite, since a row of scores that is masked in a whole tile would give NaN with minus infinity.
void document_mask(const Stream& stream, const Tensor& starts, const Tensor& mask);

}  // namespace jevons::cuda
