// Megatron's .idx: where the sequences and documents of a .bin lie. Little-endian, unaligned:
//   magic "MMIDIDX\0\0", version 1 (u64), dtype code (u8), S sequences (u64), B borders (u64),
//   tokens of each sequence (i32 x S), byte offset of each in the .bin (i64 x S), first sequence of each
//   document (i64 x B).
// The borders begin with 0 and end with S, so there are B - 1 documents. Source: Megatron-LM,
// indexed_dataset.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "data/token_dtype.h"

namespace jevons {

inline constexpr char kIdxMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
inline constexpr std::size_t kIdxHeaderBytes = 34;

// A checked view; the bytes must outlive it.
class TokenIndex {
 public:
  TokenIndex() = default;
  TokenDType dtype() const { return dtype_; }
  std::int64_t num_tokens() const { return num_tokens_; }
  std::int64_t num_sequences() const { return num_sequences_; }
  std::int64_t num_documents() const { return num_documents_; }
  // First token of a document, non-decreasing; document may be num_documents(), which gives num_tokens().
  std::int64_t document_begin(std::int64_t document) const;
  // The smallest first token of a document that is > token; num_tokens() if there is none. O(log documents).
  std::int64_t next_border(std::int64_t token) const;

 private:
  friend TokenIndex parse_idx(std::span<const std::byte>, std::uint64_t, const std::string&);
  TokenDType dtype_ = TokenDType::kU8;
  std::int64_t num_tokens_ = 0, num_sequences_ = 0, num_documents_ = 0;
  const std::byte* pointers_ = nullptr;  // i64 (S)
  const std::byte* borders_ = nullptr;   // i64 (B)
};

// Checks every field against the real sizes before it is used: both files must be covered exactly, sequences
// must follow each other without gap, borders must not decrease. Any byte string is safe input. Throws
// Error(kData) that names `name`, the offset and what is wrong.
TokenIndex parse_idx(std::span<const std::byte> bytes, std::uint64_t bin_size, const std::string& name);

}  // namespace jevons
