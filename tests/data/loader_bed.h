// Batches of a data loader, and data whose tokens tell their place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/data_loader.h"
#include "tests/data/temp_files.h"

namespace jevons {

constexpr std::int64_t kVocab = 1 << 20;

struct Batch {
  std::vector<std::int32_t> tokens, targets, doc_start;
  bool operator==(const Batch&) const = default;
};

// Samples first .. first + n of `split`.
inline Batch read(const DataLoader& loader, Split split, std::uint64_t first, std::size_t n,
                  std::int64_t seq_len) {
  const std::size_t size = n * static_cast<std::size_t>(seq_len);
  Batch b{std::vector<std::int32_t>(size, -5), std::vector<std::int32_t>(size, -5),
          std::vector<std::int32_t>(size, -5)};
  loader.read(split, first, {b.tokens, b.targets, b.doc_start});
  return b;
}

// One source whose token at position p has id p.
struct CountingSource {
  TempDir dir;
  DataConfig config;

  explicit CountingSource(std::int32_t tokens, std::int64_t seq_len = 8) {
    write_pair(dir / "t", TokenDType::kI32, {counting(0, tokens)});
    config.train = {{dir / "t", 1}};
    config.seq_len = seq_len;
    config.seed = 42;
  }
};

}  // namespace jevons
