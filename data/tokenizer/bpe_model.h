// Byte-pair encoding of one piece of text: symbols (bytes or characters) are joined, always the adjacent pair
// of lowest rank, the leftmost of equal ones, until no pair has a rank. Ids and hashes of pairs only; a
// piece's strings are looked at once. Sennrich et al., "Neural Machine Translation of Rare Words with Subword
// Units", 2016.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace jevons {

struct Merge {
  std::int32_t left = 0, right = 0;
  std::int32_t result = 0;
  std::int32_t rank = 0;  // equal ones are taken from the left
  bool operator==(const Merge&) const = default;
};

// What is joined when, by a hash of both ids.
class MergeTable {
 public:
  MergeTable() : MergeTable(std::vector<Merge>()) {}
  // Of two merges of one pair the later one counts.
  explicit MergeTable(const std::vector<Merge>& merges);
  const Merge* find(std::int32_t left, std::int32_t right) const {
    for (std::size_t at = slot(left, right);; at = (at + 1) & mask_) {
      const Merge& m = slots_[at];
      if (m.left == left && m.right == right) return &m;
      if (m.left < 0) return nullptr;
    }
  }

 private:
  std::size_t slot(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
                              static_cast<std::uint32_t>(right);
    return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> shift_);
  }
  std::vector<Merge> slots_;  // left < 0: free
  std::size_t mask_;
  int shift_;
};

// Views into the keys make look-ups without a copy.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const;
};
using TextIds = std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>>;

enum class Symbols { kBytes, kCharacters };

struct BpeParts {
  Symbols symbols = Symbols::kBytes;
  TextIds vocabulary;  // what a text can become, by its bytes
  std::vector<Merge> merges;
  bool whole_pieces_first = false;      // a piece that is in the vocabulary is not put together
  std::optional<std::int32_t> unknown;  // for symbols that are not in the vocabulary; none: they are left out
  bool fuse_unknown = false;            // one for several in a row
  std::vector<std::int32_t> byte_tokens;  // for the bytes of unknown characters, -1 for none: 256 or nothing
};

class BpeModel {
 public:
  // One thread's memory.
  struct Scratch {
    std::vector<std::int32_t> ids;
    std::vector<const Merge*> merges;  // of ids i and i + 1
    std::vector<std::int32_t> before, behind;
    struct Candidate {
      std::int32_t rank, at, left, right;
    };
    std::vector<Candidate> heap;
  };

  BpeModel() = default;
  explicit BpeModel(BpeParts parts);
  // Appends the ids of `piece`, which is UTF-8 and not empty.
  void encode(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& ids) const;

 private:
  void put_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void put_characters(std::string_view piece, std::vector<std::int32_t>& ids) const;
  bool put_bytes(std::string_view character, std::vector<std::int32_t>& ids) const;
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;

  Symbols symbols_ = Symbols::kBytes;
  bool whole_pieces_first_ = false, fuse_unknown_ = false, all_bytes_known_ = false;
  std::optional<std::int32_t> unknown_;
  std::array<std::int32_t, 256> bytes_{};  // -1: not in the vocabulary
  std::vector<std::int32_t> byte_tokens_;
  TextIds vocabulary_;  // whole pieces, characters
  MergeTable merges_;
};

}  // namespace jevons
