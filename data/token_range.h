// A stretch of one token file as samples of seq_len inputs and their targets: the train or the validation
// part.
#pragma once

#include <cstdint>
#include <memory>

#include "data/data_loader.h"
#include "data/token_facts.h"
#include "data/token_file.h"

namespace jevons {

struct TokenRange {
  std::shared_ptr<const TokenFile> file;
  std::int64_t begin = 0, end = 0;  // tokens
  std::int64_t seq_len = 0;
  std::optional<TokenFacts> facts;  // of the file

  // A sample's inputs are seq_len tokens and its last target is one more, the first input of its neighbour.
  std::int64_t samples() const { return end - begin > seq_len ? (end - begin - 1) / seq_len : 0; }
  // Tokens that no sample has as inputs when samples are cut one after the other: 0 .. seq_len - 1.
  std::int64_t left_over() const { return end - begin - 1 - samples() * seq_len; }
};

enum class DocumentMask { kOff, kOn };

// One row of a batch, whose inputs begin at token `start` of the file; the spans hold seq_len elements each.
void read_row(const TokenFile& file, std::int64_t start, std::int64_t vocab_size, DocumentMask mask,
              BatchView row);

}  // namespace jevons
