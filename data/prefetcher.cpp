#include "data/prefetcher.h"

#include <utility>

namespace jevons {

Prefetcher::Prefetcher(std::function<void(std::uint64_t)> load)
    : load_(std::move(load)), thread_([this] { run(); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::request(std::uint64_t first, std::uint64_t n) {
  {
    const std::lock_guard lock(mutex_);
    next_ = first;
    end_ = first + n;
  }
  changed_.notify_all();
}

void Prefetcher::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return next_ == end_ && !loading_; });
}

void Prefetcher::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || next_ != end_; });
    if (stop_) return;
    const std::uint64_t sample = next_++;
    loading_ = true;
    lock.unlock();
    load_(sample);
    lock.lock();
    loading_ = false;
    if (next_ == end_) changed_.notify_all();
  }
}

}  // namespace jevons
