// Ranks as tiktoken has them: a line for each token, its bytes in base64, a blank, its rank, which is its id.
// A piece that is a token is that; else the pair whose bytes together have the lowest rank is joined. How
// text is split and which special tokens follow is not in the file, but goes with the number of ranks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe_tokenizer.h"

namespace jevons {

bool looks_like_tiktoken(std::string_view bytes);
// Throws Error(kData) naming `name`, the line and what is wrong; also for a number of ranks that it does not
// know.
TokenizerParts parse_tiktoken(std::string_view bytes, const std::string& name);

// Tokens by their rank become the ids behind those that `parts` has. Throws Error(kData) naming parts.name if
// one is there twice, or a byte is none.
void put_ranks(const std::vector<std::string>& tokens, TokenizerParts& parts);
std::optional<std::string> bytes_of_base64(std::string_view text);

}  // namespace jevons
