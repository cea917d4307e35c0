#include "data/token_sink.h"

#include <algorithm>
#include <span>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kJobBytes = std::size_t{256} << 10;   // fits the L2 cache together with its ids
constexpr std::size_t kLongestPart = std::size_t{1} << 30;  // bytes of a document without a place to cut

}  // namespace

TokenSink::TokenSink(const Tokenizer& tokenizer, const Settings& settings, TokenWriter& writer,
                     ProgressLine& progress)
    : tokenizer_(tokenizer),
      separator_(settings.separator),
      writer_(writer),
      progress_(progress),
      pool_(tokenizer, settings.specials, settings.threads, [this](const EncodedJob& job) { write(job); }) {}

void TokenSink::text(std::string_view piece) {
  text_bytes_ += piece.size();
  if (piece.find('\0') != std::string_view::npos)
    nuls_ += static_cast<std::uint64_t>(std::count(piece.begin(), piece.end(), '\0'));
  job_.text += piece;
  if (job_.text.size() >= kJobBytes) cut_document();
}

void TokenSink::end_document() {
  close_part(job_.text.size(), true);
  place_ = TextPart::kBeginning;
  if (job_.text.size() >= kJobBytes) submit(job_.text.size());
}

// What comes behind the last place to cut waits for more.
void TokenSink::cut_document() {
  // A place depends on the character before it.
  constexpr std::size_t kBefore = 4;
  const std::size_t from = std::max(part_begin_, looked_at_ > kBefore ? looked_at_ - kBefore : 0);
  const std::size_t found = tokenizer_.cut(std::string_view(job_.text).substr(from));
  if (found == 0) {
    if (part_begin_ > 0) return submit(part_begin_);
    looked_at_ = job_.text.size();
    if (looked_at_ > kLongestPart)
      fail(ExitCode::kData, "a document has {} bytes in a row that cannot be cut without changing its tokens",
           looked_at_);
    return;
  }
  close_part(from + found, false);
  place_ = TextPart::kRest;
  submit(from + found);
}

void TokenSink::close_part(std::size_t end, bool ends_document) {
  job_.parts.push_back({end, place_, ends_document});
  part_begin_ = looked_at_ = end;
}

// The closed parts, which are the first `size` bytes.
void TokenSink::submit(std::size_t size) {
  EncodeJob next;
  next.text = job_.text.substr(size);
  job_.text.resize(size);
  pool_.submit(std::exchange(job_, std::move(next)));
  part_begin_ = looked_at_ = 0;
}

void TokenSink::write(const EncodedJob& job) {
  std::size_t begin = 0;
  for (const EncodedJob::Part& part : job.parts) {
    const auto ids = std::span(job.ids).subspan(begin, part.end - begin);
    writer_.append(ids);
    document_tokens_ += ids.size();
    begin = part.end;
    if (!part.ends_document || document_tokens_ == 0) continue;
    writer_.append({&separator_, 1});
    writer_.end_document();
    document_tokens_ = 0;
  }
}

void TokenSink::finish() {
  if (!job_.parts.empty()) submit(part_begin_);
  pool_.finish();
}

}  // namespace jevons
