// Text into token files: what `jevons data prepare` does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/input_format.h"
#include "data/token_dtype.h"
#include "data/tokenizer.h"

namespace jevons {

struct PrepareOptions {
  // Files, pipes, kStandardInput, patterns of files; read in this order, a pattern's files by name. Each
  // begins a new document. gzip and Zstandard are decompressed.
  std::vector<std::string> inputs;
  std::string output;  // prefix of the .bin/.idx pair; an existing pair is replaced when all is done
  InputFormat format = InputFormat::kAuto;
  std::string json_key = "text";  // JSON: the field that holds the text
  std::optional<std::string>
      separator_line;  // text: a line like this ends a document; none: one document per file
  std::string tokenizer = kByteTokenizer;  // see load_tokenizer
  std::string separator;  // the token that ends a document; "": what the tokenizer's files name
  Specials specials = Specials::kAreText;  // names of special tokens in documents
  int threads = 1;                         // that encode; they change no token
  bool skip_bad_lines = false;  // JSON records that give no text are counted and left out; else an error
};

struct PrepareSummary {
  std::string bin_path, idx_path;      // beside them the facts (token_facts.h)
  TokenDType dtype = TokenDType::kU8;  // smallest that holds the vocabulary
  std::int64_t files = 0;              // inputs, those of patterns one by one
  std::int64_t documents = 0;          // documents without tokens are left out
  std::int64_t tokens = 0;             // a separator per document included
  std::uint64_t input_bytes = 0;       // of the inputs, as they are stored
  std::uint64_t text_bytes = 0;        // text in the documents
  std::uint64_t dropped_nuls = 0;      // NUL bytes in it, which no token stands for
  std::int64_t bad_records = 0;        // that were skipped
  std::vector<std::string> first_bad;  // of those the first few, as "file:line: what"
  double seconds = 0;
};

// Shows progress on standard error when that is a terminal. Memory does not grow with the inputs, but for
// JSON with the longest record, and with the longest part of a document that cannot be cut (Tokenizer::cut).
// Nothing is written over an input or a file that is no token file. Throws Error(kData) for bad input,
// Error(kUsage) for bad options; then the output is as it was before.
PrepareSummary prepare_tokens(const PrepareOptions& options);

}  // namespace jevons
