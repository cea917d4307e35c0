// The tokenizer of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer_files.h"
#include "trainer/hf/model_source.h"

namespace jevons {

inline constexpr const char* kTokenizerHelp =
    "As of data prepare [what came with the model; that of its training data; byte]";

// The tokenizer `wanted`; for "" the one that came with the model, else that of the tokens on which it was
// trained, else bytes. Throws Error(kUsage) if the model was trained on tokens of another one, or if its
// tokens cannot be bytes.
std::unique_ptr<Tokenizer> tokenizer_of(const ModelSource& source, const std::string& wanted,
                                        std::int64_t vocab_size);

// What goes into a Hugging Face folder beside the weights so that text becomes the model's tokens.
struct FolderTokenizer {
  bool keeps_carried = true;               // what came along with the weights belongs to them still
  std::vector<TokenizerFile> files;        // to be written beside
  std::optional<std::int32_t> begin, end;  // ids that begin and end a text, where `files` are written
  std::vector<std::string> notes;          // what is missing, and why
};
// What came along; else that of the tokens on which the model was trained, where its file still is what it
// was. Throws Error(kData) for one that cannot be read.
FolderTokenizer folder_tokenizer(const ModelSource& source);

// Tokens each of which ends a text: what separates documents, and eos_token_id of generation_config.json.
std::vector<std::int32_t> stop_tokens_of(const ModelSource& source, const Tokenizer& tokenizer);

}  // namespace jevons
