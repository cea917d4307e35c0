// The tokenizer of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "trainer/hf/model_source.h"

namespace jevons {

inline constexpr const char* kTokenizerHelp =
    "As of data prepare [what came with the model; that of its training data; byte]";

// The tokenizer `wanted`; for "" the one that came with the model, else that of the tokens on which it was
// trained, else bytes. Throws Error(kUsage) if the model was trained on tokens of another one, or if its
// tokens cannot be bytes.
std::unique_ptr<Tokenizer> tokenizer_of(const ModelSource& source, const std::string& wanted,
                                        std::int64_t vocab_size);

// Tokens each of which ends a text: what separates documents, and eos_token_id of generation_config.json.
std::vector<std::int32_t> stop_tokens_of(const ModelSource& source, const Tokenizer& tokenizer);

}  // namespace jevons
