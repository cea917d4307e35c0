// Training samples as a pure function of (seed, sample index): no state but the index, so a run's position is
// one integer and does not depend on the number of workers. Samples are seq_len + 1 consecutive tokens of a
// packed file, visited in a new random order every epoch of their source; a blend draws its source per
// sample.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/data_config.h"
#include "data/token_facts.h"

namespace jevons {

// Host memory of n sequences of seq_len positions, row-major.
struct BatchView {
  std::span<std::int32_t> tokens;     // (n, seq) inputs
  std::span<std::int32_t> targets;    // (n, seq) next token, -1 = masked: it belongs to the next document
  std::span<std::int32_t> doc_start;  // (n, seq) first visible position; all 0 without document_mask
};

enum class Split { kTrain, kValidation };

// A source as one split reads it.
struct SourceFacts {
  std::string name;            // its path as configured; with a number behind it where that stands twice
  std::int64_t files = 0;      // token files
  std::int64_t too_short = 0;  // of those: without a sample
  std::int64_t tokens = 0, samples = 0;
  double share = 0;                       // of the blend; of all sources together 1
  std::optional<double> bytes_per_token;  // of text, over whole files: by their facts, 1 for bytes
};

class DataLoader {
 public:
  // Opens and validates every source; throws Error(kData) naming file and offset, Error(kUsage) if its
  // tokenizer has more tokens than vocab_size, which bounds every token id (checked when read).
  DataLoader(const DataConfig& config, std::int64_t vocab_size);
  ~DataLoader();

  // Fills sequences for samples first .. first + n - 1 of a split. Train samples are endless (epochs);
  // validation ones are in the order of sources and files and must be < validation_samples(). In an epoch of
  // a source every token is an input of exactly one sample, but for less than seq_len tokens of each file
  // that are left over, at a random end. Safe from several threads.
  void read(Split split, std::uint64_t first, BatchView out) const;
  // Tells the loader which train samples come next; a background thread touches their pages. A new call
  // replaces what is left of the one before.
  void prefetch(std::uint64_t first, std::int64_t n);

  // Samples in one pass over every train source. With weights, that many samples are more than one pass over
  // some sources and less over others: each source counts its own epochs.
  std::int64_t train_samples_per_epoch() const;
  std::int64_t validation_samples() const;
  // What made the tokens, of all files that say it (token_facts.h); nothing if none does.
  const std::optional<TokenFacts>& tokenizer() const;
  // In the order of the configuration. Held-out tails have the shares of their train sources.
  std::vector<SourceFacts> sources(Split split) const;
  // How many of the first `samples` train samples are of each source.
  std::vector<std::uint64_t> train_samples_by_source(std::uint64_t samples) const;
  // What one validation reads of each source, as numbers of samples: everything for limit 0; else `limit`
  // samples, spread over the sources by share and over a source's files by size, each file from its
  // beginning, and at least one of every source that has any.
  std::vector<std::vector<std::uint64_t>> validation_selection(std::int64_t limit) const;

  // XXH3 over every file's size and content sample, as 16 hex digits: the data's identity in passport and
  // checkpoint.
  std::string fingerprint() const;
  // The same of all that a validation loss depends on but the weights: content, held-out parts, shares,
  // validation_selection(limit), document mask. Losses with equal ones can be compared.
  std::string validation_fingerprint(std::int64_t limit) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jevons
