// tokenizer.json, the format of Hugging Face's tokenizers: byte-pair encoding over bytes or characters. What
// the program does not do is refused by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/tokenizer/bpe_tokenizer.h"

namespace jevons {

// Throws Error(kData) naming `name`, the key and what is wrong. Separator and prefix: by the file alone.
TokenizerParts parse_tokenizer_json(std::string_view bytes, const std::string& name);

}  // namespace jevons
