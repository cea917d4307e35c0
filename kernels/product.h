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
  DType dtype = DType::kF32;
  Contiguous contiguous = Contiguous::kInner;
  const float* scale = nullptr;  // one number beside data that multiplies every element; null: 1

  // The same matrix from (outer, k) on.
  Operand from(std::int64_t outer, std::int64_t k) const {
    const std::int64_t elements = contiguous == Contiguous::kInner ? outer * ld + k : k * ld + outer;
    Operand part = *this;
    part.data = static_cast<const char*>(data) + elements * static_cast<std::int64_t>(size_of(dtype));
    return part;
  }
};

// kAssign writes C, rounded once. kAccumulate adds to C, which has the accumulator dtype of the product.
enum class Output : std::uint8_t { kAssign, kAccumulate };

struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  Operand a, b;
  void* c = nullptr;
  std::int64_t ldc = 0;  // elements
  DType c_dtype = DType::kF32;
  Output output = Output::kAssign;
};

// What the elements of an operand are multiplied as, by itself: a scaled one is not in its own dtype's
// numbers.
inline DType factor_dtype(DType dtype, bool scaled) {
  return scaled ? accumulator_of(dtype) : dtype;
}

// What the elements of two factors are widened to before they are multiplied; sums are in accumulator_of it.
inline DType common_dtype(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kF64 || b == DType::kF64 ? DType::kF64 : DType::kF32;
}
inline DType common_dtype(const Product& p) {
  return common_dtype(factor_dtype(p.a.dtype, p.a.scale != nullptr),
                      factor_dtype(p.b.dtype, p.b.scale != nullptr));
}

}  // namespace jevons
