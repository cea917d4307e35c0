#include "data/token_index.h"

#include <bit>
#include <cstring>

#include "kernels/core/error.h"

namespace jevons {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

template <class T>
T load(const std::byte* array, std::int64_t i) {
  T value;
  std::memcpy(&value, array + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

// Takes fields off the front of the file and knows where it stands.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  std::size_t offset() const { return offset_; }
  std::size_t left() const { return bytes_.size() - offset_; }

  const std::byte* array(std::uint64_t count, std::size_t item, const char* what) {
    if (count > left() / item)
      fail(ExitCode::kData, "{}: offset {}: {} need {} x {} bytes, but the file ends at {}", name_, offset_,
           what, count, item, bytes_.size());
    const std::byte* begin = bytes_.data() + offset_;
    offset_ += static_cast<std::size_t>(count) * item;
    return begin;
  }
  template <class T>
  T field(const char* what) {
    return load<T>(array(1, sizeof(T), what), 0);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& name_;
  std::size_t offset_ = 0;
};

TokenDType token_dtype_of(std::uint8_t code, const std::string& name) {
  switch (code) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 8:
      return static_cast<TokenDType>(code);
    case 6:
    case 7:
      fail(ExitCode::kData, "{}: offset 17: dtype code {} is floating point, not token ids", name, code);
    default:
      fail(ExitCode::kData, "{}: offset 17: unknown dtype code {}", name, code);
  }
}

// Every sequence must begin where the one before ended. Returns the bytes of all.
std::uint64_t check_sequences(const std::byte* sizes, const std::byte* pointers, std::int64_t count,
                              std::size_t item, const std::string& name) {
  const auto pointers_at = kIdxHeaderBytes + static_cast<std::size_t>(count) * sizeof(std::int32_t);
  // Equals an int64 at the top of every turn, so adding one sequence (< 2^34) cannot overflow.
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto size = load<std::int32_t>(sizes, i);
    const auto pointer = load<std::int64_t>(pointers, i);
    if (size < 0)
      fail(ExitCode::kData, "{}: offset {}: sequence {} has {} tokens", name,
           kIdxHeaderBytes + static_cast<std::size_t>(i) * sizeof(size), i, size);
    if (pointer < 0 || static_cast<std::uint64_t>(pointer) != total)
      fail(
          ExitCode::kData,
          "{}: offset {}: sequence {} is said to begin at byte {} of the .bin, but the one before ends at {}",
          name, pointers_at + static_cast<std::size_t>(i) * sizeof(pointer), i, pointer, total);
    total += static_cast<std::uint64_t>(size) * item;
  }
  return total;
}

void check_borders(const std::byte* borders, std::int64_t count, std::int64_t num_sequences, std::size_t at,
                   const std::string& name) {
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto border = load<std::int64_t>(borders, i);
    const std::size_t offset = at + static_cast<std::size_t>(i) * sizeof(border);
    if (i == 0 && border != 0)
      fail(ExitCode::kData, "{}: offset {}: the first document begins at sequence {}, not 0", name, offset,
           border);
    if (border < before || border > num_sequences)
      fail(ExitCode::kData, "{}: offset {}: document {} begins at sequence {}, outside {}..{}", name, offset,
           i, border, before, num_sequences);
    before = border;
  }
  if (before != num_sequences)
    fail(ExitCode::kData, "{}: offset {}: the last document ends at sequence {} of {}", name,
         at + static_cast<std::size_t>(count - 1) * sizeof(before), before, num_sequences);
}

}  // namespace

std::int64_t TokenIndex::document_begin(std::int64_t document) const {
  const auto sequence = load<std::int64_t>(borders_, document);
  if (sequence == num_sequences_) return num_tokens_;
  return load<std::int64_t>(pointers_, sequence) / static_cast<std::int64_t>(size_of(dtype_));
}

std::int64_t TokenIndex::next_border(std::int64_t token) const {
  std::int64_t low = 0, high = num_documents_;  // the first document behind `token` is in low..high
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (document_begin(middle) > token) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return document_begin(low);
}

TokenIndex parse_idx(std::span<const std::byte> bytes, std::uint64_t bin_size, const std::string& name) {
  Cursor cursor(bytes, name);
  if (std::memcmp(cursor.array(sizeof(kIdxMagic), 1, "magic"), kIdxMagic, sizeof(kIdxMagic)) != 0)
    fail(ExitCode::kData, "{}: offset 0: not a Megatron .idx (wrong magic)", name);
  const auto version = cursor.field<std::uint64_t>("version");
  if (version != 1) fail(ExitCode::kData, "{}: offset 9: version {}, only 1 is known", name, version);

  TokenIndex index;
  index.dtype_ = token_dtype_of(cursor.field<std::uint8_t>("dtype code"), name);
  const auto sequences = cursor.field<std::uint64_t>("sequence count");
  const auto borders = cursor.field<std::uint64_t>("document count");
  if (borders == 0) fail(ExitCode::kData, "{}: offset 26: document count 0; even an empty file has 1", name);

  const std::byte* sizes = cursor.array(sequences, sizeof(std::int32_t), "sequence sizes");
  index.pointers_ = cursor.array(sequences, sizeof(std::int64_t), "sequence offsets");
  const std::size_t borders_at = cursor.offset();
  index.borders_ = cursor.array(borders, sizeof(std::int64_t), "documents");
  if (cursor.left() != 0)
    fail(ExitCode::kData, "{}: offset {}: {} bytes after the last document (multimodal files are not read)",
         name, cursor.offset(), cursor.left());

  // From here on the counts are known to fit the file, so they fit an int64.
  index.num_sequences_ = static_cast<std::int64_t>(sequences);
  index.num_documents_ = static_cast<std::int64_t>(borders) - 1;
  const std::size_t item = size_of(index.dtype_);
  const std::uint64_t total = check_sequences(sizes, index.pointers_, index.num_sequences_, item, name);
  check_borders(index.borders_, index.num_documents_ + 1, index.num_sequences_, borders_at, name);
  if (total != bin_size)
    fail(ExitCode::kData, "{}: its sequences cover {} bytes, but the .bin has {}{}", name, total, bin_size,
         bin_size < total ? " (truncated?)" : "");
  index.num_tokens_ = static_cast<std::int64_t>(total / item);
  return index;
}

}  // namespace jevons
