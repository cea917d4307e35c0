// Integer types of token ids on disk. The values are Megatron's dtype codes (its 6 and 7, f64 and f32, hold
// no ids).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace jevons {

enum class TokenDType : std::uint8_t {
  kU8 = 1,
  kI8 = 2,
  kI16 = 3,
  kI32 = 4,
  kI64 = 5,
  kU16 = 8,
  kU32 = 128,  // llm.c only: Megatron has no code for it
};

// Calls f(T{}) with the C++ type that `dtype` stands for.
template <class F>
decltype(auto) with_token_type(TokenDType dtype, F&& f) {
  switch (dtype) {
    case TokenDType::kU8:
      return f(std::uint8_t{});
    case TokenDType::kI8:
      return f(std::int8_t{});
    case TokenDType::kI16:
      return f(std::int16_t{});
    case TokenDType::kU16:
      return f(std::uint16_t{});
    case TokenDType::kU32:
      return f(std::uint32_t{});
    case TokenDType::kI64:
      return f(std::int64_t{});
    case TokenDType::kI32:
      break;
  }
  return f(std::int32_t{});
}

inline std::size_t size_of(TokenDType dtype) {
  return with_token_type(dtype, [](auto zero) { return sizeof(zero); });
}

constexpr std::string_view name_of(TokenDType dtype) {
  switch (dtype) {
    case TokenDType::kU8:
      return "u8";
    case TokenDType::kI8:
      return "i8";
    case TokenDType::kI16:
      return "i16";
    case TokenDType::kI32:
      return "i32";
    case TokenDType::kI64:
      return "i64";
    case TokenDType::kU16:
      return "u16";
    case TokenDType::kU32:
      return "u32";
  }
  return "?";
}

// The smallest type that holds every id below vocab_size.
constexpr TokenDType token_dtype_for(std::int64_t vocab_size) {
  if (vocab_size <= 0x100) return TokenDType::kU8;
  return vocab_size <= 0x10000 ? TokenDType::kU16 : TokenDType::kI32;
}

}  // namespace jevons
