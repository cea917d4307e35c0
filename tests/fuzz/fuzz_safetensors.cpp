// The safetensors header: any bytes either throw Error(kData) or give tensors that lie inside the file, one
// after another, with shapes that fill them.
#include <cstdlib>
#include <span>

#include "kernels/core/error.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/io/box.h"
#include "trainer/io/safetensors.h"

namespace {

using jevons::SafetensorsEntry;
using jevons::SafetensorsHeader;

void require(bool holds) {
  if (!holds) std::abort();
}

void use(const SafetensorsHeader& header, std::uint64_t data_bytes) {
  std::uint64_t at = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    const auto numel = jevons::checked_numel(entry.shape);
    require(numel.has_value() && entry.begin == at && entry.end >= entry.begin && entry.end <= data_bytes);
    require(static_cast<std::uint64_t>(*numel) * size_of(entry.dtype) == entry.end - entry.begin);
    at = entry.end;
  }
  require(at == data_bytes);
}

// A file with these tensors and zeros as their data.
std::string seed(const SafetensorsHeader& header) {
  const std::uint64_t data = header.entries.empty() ? 0 : header.entries.back().end;
  return format_safetensors_header(header) + std::string(data, '\0');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  try {
    const SafetensorsHeader header = jevons::parse_safetensors_header(file, size, "fuzz.safetensors");
    use(header, size - jevons::safetensors_header_bytes(file, size, "fuzz.safetensors"));
  } catch (const jevons::Error& error) {
    require(error.code() == jevons::ExitCode::kData);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  using jevons::DType;
  return {seed({}), seed({{{"format", "jevons"}, {"step", "1"}}, {{"w", DType::kF32, {2, 3}, 0, 24}}}),
          seed({{},
                {{"a@0,4", DType::kF64, {2, 1}, 0, 16},
                 {"b", DType::kBF16, {}, 16, 18},
                 {"c", DType::kU8, {0, 7}, 18, 18},
                 {"d", DType::kI64, {1}, 18, 26}}})};
}
