// Timing for benchmarks on machines that do other work too: medians of samples during which our threads got a
// core.
#pragma once

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

namespace jevons::bench {

// A clock for work on `threads` threads: CPU time of the calling thread when there is one, so that other
// programs on the core do not count; else wall time.
class Stopwatch {
 public:
  explicit Stopwatch(int threads) : clock_(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {
    restart();
  }
  void restart() { begin_ = now(); }
  double seconds() const { return now() - begin_; }

 private:
  double now() const {
    timespec t{};
    clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  clockid_t clock_;
  double begin_ = 0;
};

// Seconds that the threads of this process were runnable but waited for a core, summed over threads (Linux
// schedstat); 0 where the kernel does not say.
inline double core_wait_seconds() {
  double total = 0;
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(task.path() / "schedstat");
    double ran = 0, waited = 0;  // nanoseconds
    if (file >> ran >> waited) total += waited * 1e-9;
  }
  return total;
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Runs `body` until `wanted` samples waited for a core less than 3% of their time (summed over threads), at
// most four times as often; then hands the quietest samples to `keep`. The first run only warms up. Returns
// the median share of waiting.
template <class Body, class Keep>
double sample(int wanted, Body body, Keep keep) {
  using Result = decltype(body());
  struct Run {
    double wait_share;
    Result result;
  };
  std::vector<Run> runs;
  body();
  int quiet = 0;
  for (int i = 0; i < 4 * wanted && quiet < wanted; ++i) {
    const double waited = core_wait_seconds();
    const Stopwatch wall(0);
    Result result = body();
    const double share = (core_wait_seconds() - waited) / wall.seconds();
    quiet += share <= 0.03;
    runs.push_back({share, std::move(result)});
  }
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& a, const Run& b) { return a.wait_share < b.wait_share; });
  runs.resize(std::min(runs.size(), static_cast<std::size_t>(wanted)));
  std::vector<double> shares;
  for (const Run& run : runs) {
    shares.push_back(run.wait_share);
    keep(run.result);
  }
  return median(shares);
}

}  // namespace jevons::bench
