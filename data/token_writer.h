// Streams tokens into a Megatron .bin/.idx pair. Memory does not grow with the number of tokens or documents.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/atomic_file.h"
#include "data/token_dtype.h"

namespace jevons {

class TokenWriter {
 public:
  // A document longer than max_sequence tokens becomes several sequences: the .idx counts a sequence in an
  // int32.
  TokenWriter(const std::string& prefix, TokenDType dtype, std::int64_t max_sequence = std::int64_t{1} << 30);

  // Appends to the open document. Every id must fit dtype.
  void append(std::span<const std::int32_t> ids);
  // Closes it; with no tokens since the last call it is an empty document.
  void end_document();
  // Puts both files in place, .idx last. A pair of that name is replaced; without this call it stays as it
  // was.
  void commit();

  std::int64_t num_tokens() const { return num_tokens_; }
  std::int64_t num_documents() const { return num_documents_; }

 private:
  void end_sequence();
  void write_pointers();
  void write_borders();

  TokenDType dtype_;
  std::int64_t max_sequence_;
  AtomicFile bin_, idx_;
  std::vector<std::byte> narrow_;     // scratch of append
  std::int64_t sequence_tokens_ = 0;  // of the open sequence
  std::int64_t num_tokens_ = 0;
  std::int64_t num_sequences_ = 0;
  std::int64_t num_documents_ = 0;
  std::vector<std::int64_t>
      continuations_;  // sequences that do not begin a document: one per max_sequence tokens
};

}  // namespace jevons
