#include "data/piece_counter.h"

#include <utility>

#include "data/tokenizer/unicode.h"
#include "kernels/core/error.h"

namespace jevons {
PieceCounter::PieceCounter(const Splitter& splitter, const Tokenizer& cutter, int threads,
                           ProgressLine& progress)
    : splitter_(splitter), cutter_(cutter), progress_(progress), counts_(static_cast<std::size_t>(threads)) {
  ENSURE(threads >= 1, "{} threads", threads);
  for (PieceCounts& counts : counts_) threads_.emplace_back([this, &counts] { work(counts); });
}

PieceCounter::~PieceCounter() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PieceCounter::text(std::string_view piece) {
  text_ += piece;
  if (text_.size() < wanted_) return;
  const std::size_t size = cutter_.cut(text_);
  // What has no place to cut is looked at again when it has doubled.
  wanted_ = size > 0 ? kStretchBytes : 2 * text_.size();
  if (size > 0) submit(size);
}

void PieceCounter::end_document() {
  if (!text_.empty()) submit(text_.size());
  wanted_ = kStretchBytes;
}

void PieceCounter::submit(std::size_t size) {
  std::string rest = text_.substr(size);
  text_.resize(size);
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_.size() < 4 * threads_.size() || error_; });
    if (error_) std::rethrow_exception(error_);
    waiting_.push_back(std::exchange(text_, std::move(rest)));
  }
  changed_.notify_all();
}

PieceCounts PieceCounter::finish() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (error_) std::rethrow_exception(error_);
  PieceCounts total = std::move(counts_[0]);
  for (std::size_t i = 1; i < counts_.size(); ++i) {
    for (const auto& [piece, count] : counts_[i]) total[piece] += count;
  }
  return total;
}

void PieceCounter::work(PieceCounts& counts) {
  Splitter::Scratch scratch;
  std::string fixed;
  const Splitter::Sink count = [&](std::string_view piece) {
    const auto found = counts.find(piece);
    found != counts.end() ? ++found->second : counts[std::string(piece)] = 1;
  };
  for (;;) {
    std::string text;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ended_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      text = std::move(waiting_.front());
      waiting_.pop_front();
    }
    changed_.notify_all();
    try {
      splitter_.split(valid_utf8(text, fixed), TextPlace::kFirst, scratch, count);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
}

}  // namespace jevons
