// The files beside the weights of a Hugging Face folder that a model takes along: tokenizer, generation
// settings, licence, and config.json for what it says beside the model. A checkpoint or run keeps them in
// huggingface/, as they were.
#pragma once

#include <string>
#include <vector>

namespace jevons {

// Their names in `folder`, of those that are there, config.json first.
std::vector<std::string> carried_files(const std::string& folder);

// Copies them from a Hugging Face folder, or from a checkpoint's huggingface/, into <target>/huggingface.
// Nothing is done if there are none; what is there already is replaced.
void carry_into(const std::string& folder, const std::string& target);

// The directory with the carried files of a checkpoint: its own huggingface/, or that of the run in which it
// lies; "" if there is none.
std::string carried_with(const std::string& checkpoint);

}  // namespace jevons
