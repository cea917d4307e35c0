#include "trainer/hf/elements.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/core/error.h"

namespace jevons {
namespace {

// A sign bit, `exponent_bits`, `mantissa_bits`; the exponent's largest value is taken as any other.
float from_small(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const std::uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const std::uint32_t exponent = bits >> mantissa_bits & ((1u << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits)
                                        : std::ldexp(static_cast<float>(mantissa | 1u << mantissa_bits),
                                                     static_cast<int>(exponent) - bias - mantissa_bits);
  return bits >> (exponent_bits + mantissa_bits) != 0 ? -magnitude : magnitude;
}

template <class T, class Convert>
void convert(std::span<const std::byte> bytes, std::span<float> out, Convert to_float) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = to_float(value);
  }
}

std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (std::uint32_t bits = 0; bits < values.size(); ++bits) {
    values[bits] = from_e4m3(static_cast<std::uint8_t>(bits));
  }
  return values;
}

}  // namespace

float from_half(std::uint16_t bits) {
  constexpr std::uint32_t kExponent = 0x7c00, kMantissa = 0x3ff;
  if ((bits & kExponent) != kExponent) return from_small(bits, 5, 10);
  if ((bits & kMantissa) != 0) return std::numeric_limits<float>::quiet_NaN();
  return (bits & 0x8000) != 0 ? -std::numeric_limits<float>::infinity()
                              : std::numeric_limits<float>::infinity();
}

float from_e4m3(std::uint8_t bits) {
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  return from_small(bits, 4, 3);
}

bool is_weight_type(FileDType type) {
  return type == FileDType::kF32 || type == FileDType::kF16 || type == FileDType::kBF16 ||
         type == FileDType::kE4M3;
}

void widen(FileDType type, std::span<const std::byte> bytes, std::span<float> out) {
  ENSURE(bytes.size() == out.size() * size_of(type), "{} bytes of {} as {} numbers", bytes.size(),
         name_of(type), out.size());
  static const std::array<float, 256> kE4M3 = e4m3_values();
  switch (type) {
    case FileDType::kF32:
      if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case FileDType::kBF16:
      return convert<std::uint16_t>(bytes, out, [](std::uint16_t bits) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      });
    case FileDType::kF16:
      return convert<std::uint16_t>(bytes, out, from_half);
    case FileDType::kE4M3:
      return convert<std::uint8_t>(bytes, out, [](std::uint8_t bits) { return kE4M3[bits]; });
    default:
      ENSURE(false, "{} is no type of weights", name_of(type));
  }
}

}  // namespace jevons
