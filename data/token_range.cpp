#include "data/token_range.h"

#include <algorithm>

namespace jevons {
namespace {

// Borders b in (start, start + seq_len]: token b begins a document, so it is no target for token b - 1, and
// positions from b on see nothing before it.
void mask_borders(const TokenIndex& index, std::int64_t start, BatchView row) {
  const auto seq_len = static_cast<std::int64_t>(row.tokens.size());
  for (std::int64_t border = index.next_border(start);
       border <= start + seq_len && border < index.num_tokens(); border = index.next_border(border)) {
    const auto position = static_cast<std::size_t>(border - start);
    row.targets[position - 1] = -1;
    std::fill(row.doc_start.begin() + static_cast<std::ptrdiff_t>(position), row.doc_start.end(),
              static_cast<std::int32_t>(position));
  }
}

}  // namespace

void read_row(const TokenFile& file, std::int64_t start, std::int64_t vocab_size, DocumentMask mask,
              BatchView row) {
  file.read(start, row.tokens, vocab_size);
  std::copy(row.tokens.begin() + 1, row.tokens.end(), row.targets.begin());
  file.read(start + static_cast<std::int64_t>(row.tokens.size()), row.targets.last(1), vocab_size);
  std::fill(row.doc_start.begin(), row.doc_start.end(), 0);
  if (mask == DocumentMask::kOn) mask_borders(*file.index(), start, row);
}

}  // namespace jevons
