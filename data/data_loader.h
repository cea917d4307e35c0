// Training samples as a pure function of (seed, sample index): no state but the index, so a run's position is
// one integer and does not depend on the number of workers. Samples are seq_len + 1 consecutive tokens of a
// packed source, visited in a new random order every epoch; a blend draws its source per sample.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/data_config.h"

namespace jevons {

// Host memory of n sequences of seq_len positions, row-major.
struct BatchView {
  std::span<std::int32_t> tokens;     // (n, seq) inputs
  std::span<std::int32_t> targets;    // (n, seq) next token, -1 = masked: it belongs to the next document
  std::span<std::int32_t> doc_start;  // (n, seq) first visible position; all 0 without document_mask
};

enum class Split { kTrain, kValidation };

class DataLoader {
 public:
  // Opens and validates every source; throws Error(kData) naming file and offset. vocab_size bounds every
  // token id (checked when read).
  DataLoader(const DataConfig& config, std::int64_t vocab_size);
  ~DataLoader();

  // Fills sequences for samples first .. first + n - 1 of a split. Train samples are endless (epochs);
  // validation ones are in file order and must be < validation_samples(). In an epoch of a source every token
  // is an input of exactly one sample, but for less than seq_len tokens that are left over, at a random end.
  // Safe from several threads.
  void read(Split split, std::uint64_t first, BatchView out) const;
  // Tells the loader which train samples come next; a background thread touches their pages. A new call
  // replaces what is left of the one before.
  void prefetch(std::uint64_t first, std::int64_t n);

  // Samples in one pass over every train source. With weights, that many samples are more than one pass over
  // some sources and less over others: each source counts its own epochs.
  std::int64_t train_samples_per_epoch() const;
  std::int64_t validation_samples() const;
  // Bytes of text per token over the validation split, for bits per byte; 1 for byte tokens, which is what a
  // u8 file is taken to hold. 0 = unknown, or no validation.
  double validation_bytes_per_token() const;
  // XXH3 over every source's size and content sample, as 16 hex digits: the data's identity in passport and
  // checkpoint.
  std::string fingerprint() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jevons
