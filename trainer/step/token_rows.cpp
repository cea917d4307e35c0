#include "trainer/step/token_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "kernels/core/error.h"
#include "trainer/io/file.h"
#include "trainer/io/npy.h"

namespace jevons {
namespace {

// An integer of so many bytes, little-endian.
std::int64_t integer_at(const std::byte* at, std::size_t bytes, bool has_sign) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(at[i]);
  const std::size_t unused = 64 - 8 * bytes;
  if (!has_sign) return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX));
  return static_cast<std::int64_t>(value << unused) >> unused;
}

void check_shape(const NpyHeader& header, const std::string& path) {
  const auto& shape = header.shape;
  const bool good = (shape.size() == 1 || shape.size() == 2) && header.descr[1] != 'f' &&
                    std::all_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim > 0; });
  if (good) return;
  fail(ExitCode::kData, "{}: holds ({}) of type {}, not integers (sequences, length)", path,
       fmt::join(shape, ", "), header.descr);
}

}  // namespace

std::int64_t TokenRows::targets() const {
  std::int64_t sum = 0;
  for (const std::int64_t each : lengths) sum += std::max<std::int64_t>(each - 1, 0);
  return sum;
}

void TokenRows::pad(std::int64_t multiple) {
  const std::int64_t longest = std::max<std::int64_t>(length, 1);
  const std::int64_t padded = (longest + multiple - 1) / multiple * multiple;
  if (padded == length) return;
  std::vector<std::int32_t> wide(static_cast<std::size_t>(rows() * padded));
  for (std::int64_t row = 0; row < rows(); ++row) {
    std::copy_n(tokens.begin() + row * length, length, wide.begin() + row * padded);
  }
  tokens = std::move(wide);
  length = padded;
}

TokenRows read_ids(const std::string& path, std::int64_t vocab_size) {
  const File file = File::open_read(path);
  const std::uint64_t size = file.size();
  std::vector<std::byte> start(std::min<std::uint64_t>(size, kMostNpyHeader));
  file.read_at(0, start);
  const NpyHeader header = parse_npy_header(start, size, path);
  check_shape(header, path);
  TokenRows rows;
  rows.length = header.shape.back();
  rows.lengths.assign(static_cast<std::size_t>(header.shape.size() == 1 ? 1 : header.shape[0]), rows.length);
  const std::size_t width = header.element_bytes();
  std::vector<std::byte> bytes(size - header.data_begin);
  file.read_at(header.data_begin, bytes);
  for (std::size_t i = 0; i < bytes.size() / width; ++i) {
    const std::int64_t id = integer_at(bytes.data() + i * width, width, header.descr[1] == 'i');
    if (id < 0 || id >= vocab_size) {
      const auto at = static_cast<std::int64_t>(i);
      fail(ExitCode::kData, "{}: sequence {}, position {}: {} is no token of a vocabulary of {}", path,
           at / rows.length, at % rows.length, id, vocab_size);
    }
    rows.tokens.push_back(static_cast<std::int32_t>(id));
  }
  return rows;
}

TokenRows read_lines(const std::string& path, const Tokenizer& tokenizer, std::int64_t vocab_size) {
  const std::string text = read_text_file(path);
  std::vector<std::vector<std::int32_t>> sequences;
  TokenRows rows;
  std::vector<std::int32_t> before = tokenizer.prefix();
  if (before.empty() && tokenizer.separator()) before.push_back(*tokenizer.separator());
  std::int64_t bytes = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::vector<std::int32_t>& ids = sequences.emplace_back(before);
    const std::vector<std::int32_t> line = tokenizer.encode(std::string_view(text).substr(at, end - at));
    ids.insert(ids.end(), line.begin(), line.end());
    for (const std::int32_t id : ids) {
      if (id < vocab_size) continue;
      fail(ExitCode::kData, "{}:{}: token {} is not in the model's vocabulary of {}", path, sequences.size(),
           id, vocab_size);
    }
    bytes += static_cast<std::int64_t>(end - at);
    // The first token is no target.
    if (before.empty() && !ids.empty()) bytes -= std::ssize(tokenizer.bytes_of(ids.front()));
    rows.lengths.push_back(std::ssize(ids));
    rows.length = std::max(rows.length, std::ssize(ids));
    at = end + 1;
  }
  if (sequences.empty()) fail(ExitCode::kData, "{}: is empty", path);
  for (std::vector<std::int32_t>& ids : sequences) {
    ids.resize(static_cast<std::size_t>(rows.length));
    rows.tokens.insert(rows.tokens.end(), ids.begin(), ids.end());
  }
  if (bytes > 0) rows.bytes = bytes;
  return rows;
}

}  // namespace jevons
