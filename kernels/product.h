// One matrix product, as the facade describes it to every back end: C (m, n) = or += A (m, k) B (k, n).
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"

namespace jevons {

// A matrix seen as (outer, k): element (i, k) is data[i * ld + k] when k is contiguous, else data[k * ld +
// i]. A product reads A as (m, k) and B as (n, k).
enum class Contiguous : std::uint8_t { kInner, kOuter };
struct Operand {
  const void* data = nullptr;
  std::int64_t ld = 0;  // elements
  Contiguous contiguous = Contiguous::kInner;

  // The same matrix from (outer, k) on.
  Operand from(std::int64_t outer, std::int64_t k, DType dtype) const {
    const std::int64_t elements = contiguous == Contiguous::kInner ? outer * ld + k : k * ld + outer;
    return {static_cast<const char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype)), ld,
            contiguous};
  }
};

// kAssign writes C in the dtype of A and B, rounded once. kAccumulate adds to C, which has the accumulator
// dtype.
enum class Output : std::uint8_t { kAssign, kAccumulate };

struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Operand a, b;
  void* c = nullptr;
  std::int64_t ldc = 0;  // elements
  Output output = Output::kAssign;
};

}  // namespace jevons
