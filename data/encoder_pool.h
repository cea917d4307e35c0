// Encodes stretches of text on several threads and gives the ids back in the order of the text.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "data/tokenizer.h"

namespace jevons {

// Parts of documents in a row.
struct EncodeJob {
  struct Part {
    std::size_t end;  // in the text, behind the part
    TextPart place = TextPart::kBeginning;
    bool ends_document = false;
  };
  std::string text;
  std::vector<Part> parts;
};

// Their ids.
struct EncodedJob {
  struct Part {
    std::size_t end;  // in the ids
    bool ends_document = false;
  };
  std::vector<std::int32_t> ids;
  std::vector<Part> parts;
};

class EncoderPool {
 public:
  // Called by submit() and finish(), in their thread, for the jobs in their order.
  using Sink = std::function<void(const EncodedJob&)>;

  // With one thread everything is done within submit().
  EncoderPool(const Tokenizer& tokenizer, Specials specials, int threads, Sink sink);
  ~EncoderPool();  // jobs that were not handed out are dropped
  EncoderPool(const EncoderPool&) = delete;
  EncoderPool& operator=(const EncoderPool&) = delete;

  // Waits while enough is under way. Throws what a job threw, when it is its turn.
  void submit(EncodeJob job);
  void finish();

 private:
  struct Task {
    EncodeJob job;
    EncodedJob encoded;
    std::exception_ptr error;
    bool done = false;
  };
  void work(Encoder& encoder);
  void hand_out_first();

  Sink sink_;
  std::vector<std::unique_ptr<Encoder>> encoders_;  // one per thread
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Task>> waiting_;  // that no thread has taken
  std::deque<std::shared_ptr<Task>> ordered_;  // that were not handed out
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace jevons
