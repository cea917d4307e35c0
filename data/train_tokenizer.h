// A tokenizer of one's own from text: what `jevons data train-tokenizer` does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace jevons {

struct TrainTokenizerOptions {
  std::vector<std::string>
      inputs;          // text or JSON, compressed or not, patterns, standard input: as of PrepareOptions
  std::string output;  // tokenizer.json; one that is there is replaced
  std::int64_t vocab_size = 0;           // bytes, joined tokens and specials together
  std::string pre_tokenizer = "llama3";  // a name of patterns_named
  std::vector<std::string> specials = {"<|endoftext|>"};
  enum class Place { kFirst, kLast } specials_place = Place::kLast;
  std::int64_t min_frequency = 2;  // of a pair that is joined
  std::string json_key = "text";
  int threads = 1;  // that count pieces; they change nothing in the file
};

struct TrainTokenizerSummary {
  std::int64_t vocab_size = 0;  // less than was asked for if the text has no more
  std::int64_t pieces = 0;      // different ones
  std::int64_t text_bytes = 0, tokens = 0;
  double seconds = 0;
};

// Byte-level byte-pair encoding in the format of Hugging Face's tokenizers. Throws Error(kUsage) for bad
// options, Error(kData) for bad input.
TrainTokenizerSummary train_tokenizer(const TrainTokenizerOptions& options);

}  // namespace jevons
