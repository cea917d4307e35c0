// Elements of other programs' files as fp32, exactly. E4M3 has no infinity: 0x7f and 0xff are its NaN, 448 is
// its largest value (Micikevicius et al., arXiv:2209.05433).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "trainer/io/safetensors.h"

namespace jevons {

float from_half(std::uint16_t bits);
float from_e4m3(std::uint8_t bits);

// Whether `widen` takes the type: F64 and integers are no weights.
bool is_weight_type(FileDType type);

// `bytes` holds as many elements of `type`, little-endian, as `out`.
void widen(FileDType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace jevons
