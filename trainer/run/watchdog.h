// Ends a job that does not get on. Threads of every rank, which make no MPI call, compare the whereabouts
// of the rank with the limits. When one is exceeded, every rank that lives writes where it is into a
// directory that all share; one of them concludes who is missing or late; all end with exit code 70, and the
// launcher ends the rest. Waiting for a device counts like waiting for a rank.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/whereabouts.h"
#include "parallel/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/run/watchdog_report.h"

namespace jevons {

class Watchdog {
 public:
  // Collective. `directory` is emptied; `whereabouts` are those of the thread that calls.
  Watchdog(const WatchdogConfig& config, const std::string& directory, Communicator& world,
           const Whereabouts& whereabouts);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  void watch();
  bool pause(double seconds);
  void look();
  double limit(const WorkerPlace& place) const;
  std::string problem() const;
  void listen();
  void say_last_words();
  [[noreturn]] void end_job(const std::string& reason);
  void write_own_report(const std::string& reason) const;
  void write_summary() const;
  std::string alarm_path() const;
  std::string path_of(int rank) const;

  WatchdogConfig config_;
  std::string directory_;
  int rank_;
  std::vector<RankIdentity> ranks_;
  const Whereabouts& whereabouts_;
  WorkerPlace place_;
  Clock::time_point looked_, progress_, step_begun_;
  bool stop_seen_ = false;
  std::atomic<bool> alarm_ = false;  // a rank has raised it

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_, listener_;  // last: they use the others
};

}  // namespace jevons
