// Tokenizers as files of a Hugging Face folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace jevons {

// The file of a folder that load_tokenizer would read; nothing without one.
std::optional<std::string> find_tokenizer(const std::string& folder);

struct TokenizerFile {
  std::string name, content;
};

// The files by which other programs load the tokenizer `name`, as load_tokenizer takes it: tokenizer.json or
// a SentencePiece tokenizer.model as they are, a tokenizer.json for bytes and for ranks, and what stands
// beside: chat template, tokenizer_config.json. Where there is none of the latter one is written, but for
// SentencePiece, of which no file says whose class reads it. Throws as load_tokenizer does.
std::vector<TokenizerFile> tokenizer_files(const std::string& name);

}  // namespace jevons
