// The ids of pieces that were seen before, for one thread: natural text repeats its pieces. A table of fixed
// size, one cache line per piece, in which a new piece takes the place of an old one.
#pragma once

#include <xxhash.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace jevons {

class PieceCache {
 public:
  static constexpr std::size_t kLongest = 30;  // bytes of a piece
  static constexpr std::size_t kMostIds = 8;

  static bool takes(std::string_view piece) { return piece.size() <= kLongest; }
  // `piece` is not empty.
  static std::uint64_t hash(std::string_view piece) { return XXH3_64bits(piece.data(), piece.size()); }
  // Its ids; nothing if they are not known.
  std::span<const std::int32_t> find(std::string_view piece, std::uint64_t hash) const {
    const Line& line = lines_[hash & kMask];
    if (line.size != piece.size() || std::memcmp(line.text.data(), piece.data(), piece.size()) != 0)
      return {};
    return {line.ids.data(), line.count};
  }
  // For pieces that it takes.
  void put(std::string_view piece, std::uint64_t hash, std::span<const std::int32_t> ids) {
    if (ids.empty() || ids.size() > kMostIds) return;
    Line& line = lines_[hash & kMask];
    line.size = static_cast<std::uint8_t>(piece.size());
    line.count = static_cast<std::uint8_t>(ids.size());
    std::memcpy(line.text.data(), piece.data(), piece.size());
    std::memcpy(line.ids.data(), ids.data(), ids.size_bytes());
  }

 private:
  static constexpr std::size_t kMask = (std::size_t{1} << 16) - 1;
  struct alignas(64) Line {
    std::array<std::int32_t, kMostIds> ids{};
    std::uint8_t size = 0, count = 0;
    std::array<char, kLongest> text{};
  };
  static_assert(sizeof(Line) == 64);
  std::vector<Line> lines_ = std::vector<Line>(kMask + 1);
};

}  // namespace jevons
