// A background thread that calls a function for samples that are soon to be read. Only the newest request
// counts.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace jevons {

class Prefetcher {
 public:
  // `load` runs on the thread, one sample at a time; it must not throw.
  explicit Prefetcher(std::function<void(std::uint64_t sample)> load);
  ~Prefetcher();  // finishes the sample in hand and joins

  void request(std::uint64_t first, std::uint64_t n);
  // Returns once everything requested is loaded.
  void wait();

 private:
  void run();

  std::function<void(std::uint64_t)> load_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ = 0, end_ = 0;  // samples still to load
  bool loading_ = false, stop_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace jevons
