// One memory-mapped file of token ids: a Megatron .bin with its .idx, or an llm.c .bin (256 int32 of header,
// then the tokens). Sizes are checked when it is opened, ids when they are read.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/mapped_file.h"
#include "data/token_dtype.h"
#include "data/token_index.h"

namespace jevons {

// Whether there is something at this path that a TokenFile would open.
bool token_file_exists(const std::string& path);

class TokenFile {
 public:
  // `path`: prefix of a pair, either file of it, or an llm.c file. A pair wins where both could be meant.
  // Throws Error(kData) naming file, offset and what is wrong.
  explicit TokenFile(const std::string& path);

  const std::string& path() const { return bin_.path(); }
  TokenDType dtype() const { return dtype_; }
  std::int64_t num_tokens() const { return num_tokens_; }
  // Null for llm.c files, which do not record where documents begin.
  const TokenIndex* index() const { return index_ ? &*index_ : nullptr; }

  // out[i] = id of token first + i. Throws Error(kData) for the first id outside [0, vocab_size).
  void read(std::int64_t first, std::span<std::int32_t> out, std::int64_t vocab_size) const;
  // Brings these tokens into memory.
  void load(std::int64_t first, std::int64_t count) const;

  // XXH3 over dtype, sizes and content. kSampled reads whole files up to 1 MiB and evenly spaced blocks of
  // larger ones.
  enum class HashDepth { kSampled, kWhole };
  std::uint64_t hash(HashDepth depth) const;

 private:
  void open_pair(const std::string& idx_path);
  void open_llmc();

  MappedFile bin_;
  std::optional<MappedFile> idx_;
  std::optional<TokenIndex> index_;
  TokenDType dtype_ = TokenDType::kU8;
  std::size_t tokens_at_ = 0;  // byte offset of token 0
  std::int64_t num_tokens_ = 0;
};

}  // namespace jevons
