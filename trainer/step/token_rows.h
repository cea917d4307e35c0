// Sequences of tokens that a model is shown as they are, read from files of users.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace jevons {

// Padded to the longest.
struct TokenRows {
  std::int64_t length = 0;            // of a row
  std::vector<std::int32_t> tokens;   // (rows, length)
  std::vector<std::int64_t> lengths;  // tokens of each row without padding
  std::optional<std::int64_t> bytes;  // of text that all targets stand for together, if known

  std::int64_t rows() const { return std::ssize(lengths); }
  std::int64_t targets() const;  // tokens that come behind another one
  // Every row becomes as long as the longest, rounded up to a multiple.
  void pad(std::int64_t multiple);
};

// A NumPy file of integers (sequences, length), or one sequence (length). Throws Error(kData) naming the
// first id that is not in a vocabulary of `vocab_size`.
TokenRows read_ids(const std::string& path, std::int64_t vocab_size);

// A line is a sequence, behind what begins a text by the tokenizer's own rule, or else the separator that
// ends the document before, where there is one. Throws Error(kData) naming the line of the first token that
// is not in the vocabulary.
TokenRows read_lines(const std::string& path, const Tokenizer& tokenizer, std::int64_t vocab_size);

}  // namespace jevons
