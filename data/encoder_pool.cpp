#include "data/encoder_pool.h"

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kJobsPerThread = 4;  // under way: enough that no thread waits for the reader

EncodedJob encode(const EncodeJob& job, Encoder& encoder) {
  EncodedJob encoded;
  encoded.ids.reserve(job.text.size() / 3);
  std::size_t begin = 0;
  for (const EncodeJob::Part& part : job.parts) {
    encoder.encode(std::string_view(job.text).substr(begin, part.end - begin), part.place, encoded.ids);
    encoded.parts.push_back({encoded.ids.size(), part.ends_document});
    begin = part.end;
  }
  return encoded;
}

}  // namespace

EncoderPool::EncoderPool(const Tokenizer& tokenizer, Specials specials, int threads, Sink sink)
    : sink_(std::move(sink)) {
  ENSURE(threads >= 1, "{} threads", threads);
  for (int i = 0; i < threads; ++i) encoders_.push_back(tokenizer.encoder(specials));
  if (threads == 1) return;
  for (const auto& encoder : encoders_) threads_.emplace_back([this, &encoder] { work(*encoder); });
}

EncoderPool::~EncoderPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void EncoderPool::submit(EncodeJob job) {
  if (threads_.empty()) return sink_(encode(job, *encoders_[0]));
  const auto task = std::make_shared<Task>();
  task->job = std::move(job);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(task);
    ordered_.push_back(task);
  }
  changed_.notify_all();
  while (ordered_.size() > kJobsPerThread * threads_.size()) hand_out_first();
}

void EncoderPool::finish() {
  while (!ordered_.empty()) hand_out_first();
}

// Only the caller's thread touches ordered_.
void EncoderPool::hand_out_first() {
  const std::shared_ptr<Task> task = ordered_.front();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return task->done; });
  }
  ordered_.pop_front();
  if (task->error) std::rethrow_exception(task->error);
  sink_(task->encoded);
}

void EncoderPool::work(Encoder& encoder) {
  for (;;) {
    std::shared_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      task = waiting_.front();
      waiting_.pop_front();
    }
    try {
      task->encoded = encode(task->job, encoder);
    } catch (...) {
      task->error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      task->done = true;
    }
    changed_.notify_all();
  }
}

}  // namespace jevons
