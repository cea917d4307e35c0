// SentencePiece models: byte-pair encoding over characters, in which the adjacent pair is joined whose piece
// has the highest score. The file is a Protocol Buffers message; the few fields of it that matter are read
// here, so that this room needs neither that library nor SentencePiece's, which carries another release of
// it.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer/bpe_tokenizer.h"

namespace jevons {

// Throws Error(kData) naming `name` and what is wrong or not supported.
TokenizerParts parse_sentencepiece(std::string_view bytes, const std::string& name);

}  // namespace jevons
