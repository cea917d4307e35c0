// CRC-32C (Castagnoli), the checksum of TensorBoard's records and of the ledger's lines.
// Source: RFC 3720, appendix B.4 (polynomial 0x1EDC6F41, reflected).
#pragma once

#include <cstdint>
#include <string_view>

namespace jevons {

std::uint32_t crc32c(std::string_view bytes);

}  // namespace jevons
