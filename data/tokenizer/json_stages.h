// The stages of a tokenizer.json before and behind its model.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizer/json_node.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/splitter.h"

namespace jevons {

Normalizer read_normalizer(const JsonNode& root);

struct PreTokenizer {
  std::vector<Stage> stages;
  bool byte_level = false;  // its last stage turns bytes into symbols
};
PreTokenizer read_pre_tokenizer(const JsonNode& root);

// What tokens become as text.
struct Decoding {
  enum class Step { kByteLevel, kByteFallback, kReplace };
  struct Replacement {
    Step step;
    std::string pattern, content;  // kReplace
  };
  std::vector<Replacement> steps;
  std::size_t strip_blanks = 0;  // at the beginning of a text

  std::string bytes_of(const std::string& token) const;
};
Decoding read_decoder(const JsonNode& root, const PreTokenizer& pre_tokenizer);

}  // namespace jevons
