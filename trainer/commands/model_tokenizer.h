// The tokenizer of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "trainer/hf/model_source.h"

namespace jevons {

// The tokenizer `wanted`; for "" the one that came with the model, else that of the tokens on which it was
// trained, else bytes. Throws Error(kUsage) if the model was trained on tokens of another one, or if its
// tokens cannot be bytes.
std::unique_ptr<Tokenizer> tokenizer_of(const ModelSource& source, const std::string& wanted,
                                        std::int64_t vocab_size);

}  // namespace jevons
