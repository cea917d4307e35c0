// What a pair of token files does not say itself, in PREFIX.tokens.json beside it: which tokenizer made it,
// and of how much text. Pairs from elsewhere have none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/token_file.h"

namespace jevons {

struct TokenFacts {
  std::string tokenizer;       // Tokenizer::name, a path made absolute
  std::string tokenizer_hash;  // Tokenizer::hash
  std::int64_t vocab_size = 0;
  std::int32_t separator = 0;    // that ends a document
  std::uint64_t text_bytes = 0;  // of the documents
  std::int64_t tokens = 0;       // separators included
  std::int64_t documents = 0;
  bool operator==(const TokenFacts&) const = default;
};

std::string facts_path(const std::string& prefix);
// Whether the file is one that write_facts made.
bool is_facts_file(const std::string& path);
// For the pair of this prefix, which is in place.
void write_facts(const std::string& prefix, const TokenFacts& facts);
// Nothing if there are none. Throws Error(kData) if they are damaged, or those of other token files.
std::optional<TokenFacts> read_facts(const TokenFile& file);

}  // namespace jevons
