// Text into token files: what `jevons data prepare` does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/token_dtype.h"

namespace jevons {

// kAuto: JSONL for names that end in .jsonl or .ndjson, else text.
enum class InputFormat { kAuto, kText, kJsonl };

struct PrepareOptions {
  std::vector<std::string> inputs;  // regular files, read in this order; each begins a new document
  std::string output;  // prefix of the .bin/.idx pair; an existing pair is replaced when all is done
  InputFormat format = InputFormat::kAuto;
  std::string json_key = "text";  // JSONL: the field that holds the text
  std::optional<std::string>
      separator_line;  // text: a line like this ends a document; none: one document per file
  std::string tokenizer = "byte";
};

struct PrepareSummary {
  std::string bin_path, idx_path;
  TokenDType dtype = TokenDType::kU8;  // smallest that holds the vocabulary
  std::int64_t documents = 0;          // documents without text are left out
  std::int64_t tokens = 0;             // a separator per document included
  std::uint64_t input_bytes = 0;       // size of the inputs
  std::uint64_t text_bytes = 0;        // text in the documents
  double seconds = 0;
};

// Shows progress on standard error when that is a terminal. Memory does not grow with the inputs, but for
// JSONL with the longest line. Throws Error(kData) for bad input, Error(kUsage) for bad options; then the
// output is as it was before.
PrepareSummary prepare_tokens(const PrepareOptions& options);

}  // namespace jevons
