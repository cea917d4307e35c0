// What a token file holds: what `jevons data inspect` prints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/token_dtype.h"

namespace jevons {

struct TokenCount {
  std::int32_t id;
  std::int64_t count;
};

struct InspectReport {
  std::string path;
  std::string format;  // "Megatron .bin/.idx" or "llm.c .bin"
  std::string hash;    // XXH3 over both files, 16 hex digits
  TokenDType dtype = TokenDType::kU8;
  std::int64_t tokens = 0;
  std::int64_t documents = -1;                                 // -1: not recorded; so are the next two
  std::int64_t shortest_document = -1, longest_document = -1;  // tokens
  std::int32_t smallest_id = 0, largest_id = 0;                // of a file with tokens
  std::int64_t distinct_ids = 0;
  double entropy_bits = 0;              // per token, of the ids' frequencies alone
  std::vector<TokenCount> most_common;  // at most 10, most frequent first
  std::vector<std::int32_t> first_ids;
};

// Reads the whole file. Ids may be anything from 0 to 2^31 - 1. Throws Error(kData) for what TokenFile
// refuses.
InspectReport inspect_tokens(const std::string& path, std::int64_t show_tokens);

// Several lines, ready to print. Ids of u8 files are shown as text as well.
std::string to_text(const InspectReport& report);

}  // namespace jevons
