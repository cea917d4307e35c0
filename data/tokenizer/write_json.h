// A tokenizer of bytes as a tokenizer.json, which Hugging Face's tokenizers read.
#pragma once

#include <string>

#include "data/tokenizer/bpe_tokenizer.h"

namespace jevons {

// Of byte-level parts whose stages are isolated expressions, without a normalizer. Of merges of equal
// rank, which are all taken from the left here, the one with the lower ids comes first there.
std::string format_tokenizer_json(const TokenizerParts& parts);

}  // namespace jevons
