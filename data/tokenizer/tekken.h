// Mistral's tekken.json: ranks as tiktoken has them (tiktoken.h), with the expression that splits text,
// behind the special tokens, which have the first ids.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer/bpe_tokenizer.h"

namespace jevons {

// Whether a JSON file says how many of its tokens are used, which other formats do not.
bool looks_like_tekken(std::string_view json);
// Throws Error(kData) naming `name`, the key and what is wrong.
TokenizerParts parse_tekken(std::string_view json, const std::string& name);

}  // namespace jevons
