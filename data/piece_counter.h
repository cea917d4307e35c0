// Counts the pieces of texts on several threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "data/document_reader.h"
#include "data/progress.h"
#include "data/tokenizer.h"
#include "data/tokenizer/bpe_trainer.h"
#include "data/tokenizer/splitter.h"

namespace jevons {

class PieceCounter final : public DocumentSink {
 public:
  // `cutter` says where the splitter's texts may be cut.
  PieceCounter(const Splitter& splitter, const Tokenizer& cutter, int threads, ProgressLine& progress);
  ~PieceCounter() override;
  PieceCounter(const PieceCounter&) = delete;
  PieceCounter& operator=(const PieceCounter&) = delete;

  void text(std::string_view piece) override;
  void end_document() override;
  void consumed(std::uint64_t file_bytes) override { progress_.update(files_before_ + file_bytes); }
  void end_file(std::uint64_t file_bytes) { files_before_ += file_bytes; }
  // Of all that came; at the end.
  PieceCounts finish();

 private:
  void submit(std::size_t size);
  void work(PieceCounts& counts);

  const Splitter& splitter_;
  const Tokenizer& cutter_;
  ProgressLine& progress_;
  static constexpr std::size_t kStretchBytes = std::size_t{256} << 10;
  std::size_t wanted_ = kStretchBytes;  // bytes at which a place to cut is looked for
  std::string text_;                    // of the open document, not handed to a thread yet
  std::uint64_t files_before_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> waiting_;
  bool ended_ = false;
  std::exception_ptr error_;
  std::vector<PieceCounts> counts_;  // one per thread
  std::vector<std::thread> threads_;
};

}  // namespace jevons
