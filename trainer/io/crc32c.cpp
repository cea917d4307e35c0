#include "trainer/io/crc32c.h"

#include <array>

namespace jevons {
namespace {

constexpr std::uint32_t kReflectedPolynomial = 0x82f63b78;

// Entry b: the remainder of byte b followed by 32 zero bits.
constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t b = 0; b < table.size(); ++b) {
    std::uint32_t r = b;
    for (int bit = 0; bit < 8; ++bit) r = r >> 1 ^ ((r & 1) != 0 ? kReflectedPolynomial : 0);
    table[b] = r;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kTable = make_table();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t r = ~std::uint32_t{0};
  for (char c : bytes) r = r >> 8 ^ kTable[(r ^ static_cast<std::uint8_t>(c)) & 0xff];
  return ~r;
}

}  // namespace jevons
