// The .idx reader: any bytes either throw Error(kData) or give an index whose every answer is within its own
// bounds. The first byte of the input chooses the .bin's size: the truth for a valid index, or something
// else.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "data/token_index.h"
#include "kernels/core/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using jevons::TokenIndex;

void require(bool holds) {
  if (!holds) std::abort();
}

// Visits all that a reader may ask.
void use(const TokenIndex& index) {
  std::int64_t before = 0;
  for (std::int64_t d = 0; d <= index.num_documents(); ++d) {
    const std::int64_t begin = index.document_begin(d);
    require(begin >= before && begin <= index.num_tokens());
    before = begin;
  }
  require(before == index.num_tokens());
  for (std::int64_t token = 0; token < std::min<std::int64_t>(index.num_tokens(), 100); ++token) {
    const std::int64_t border = index.next_border(token);
    require(border > token && border <= index.num_tokens());
  }
}

std::string seed(std::uint8_t bin_size, std::uint8_t dtype, const std::vector<std::int32_t>& sizes,
                 const std::vector<std::int64_t>& borders) {
  std::string bytes(1, static_cast<char>(bin_size));
  const auto put = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  bytes.append(jevons::kIdxMagic, sizeof(jevons::kIdxMagic));
  put(std::uint64_t{1}), put(dtype), put(std::uint64_t{sizes.size()}), put(std::uint64_t{borders.size()});
  for (const std::int32_t size : sizes) put(size);
  std::int64_t pointer = 0;
  for (const std::int32_t size : sizes) {
    put(pointer);
    pointer += size * static_cast<std::int64_t>(jevons::size_of(static_cast<jevons::TokenDType>(dtype)));
  }
  for (const std::int64_t border : borders) put(border);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    use(jevons::parse_idx(std::as_bytes(std::span(data + 1, size - 1)), data[0], "fuzz.idx"));
  } catch (const jevons::Error& error) {
    require(error.code() == jevons::ExitCode::kData);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {seed(0, 1, {}, {0}), seed(10, 1, {10}, {0, 1}), seed(40, 8, {3, 0, 5, 12}, {0, 1, 3, 4}),
          seed(160, 5, {1, 2, 3, 4, 10}, {0, 0, 2, 5, 5})};
}
