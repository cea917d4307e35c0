// The account of a launch, kept up to date by a thread: heartbeats come in time however long a start, a step
// or a wait for a dead worker takes, so that a kill at any instant loses at most one interval.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "trainer/cost/ledger.h"

namespace jevons {

class LedgerPulse {
 public:
  // `interval`: longest time between two records.
  LedgerPulse(Ledger ledger, std::chrono::duration<double> interval);
  ~LedgerPulse();
  LedgerPulse(const LedgerPulse&) = delete;
  LedgerPulse& operator=(const LedgerPulse&) = delete;

  const std::string& launch() const { return ledger_.launch(); }
  // What heartbeats say from now on. The first call says where the launch begins and is written at once;
  // later ones are written when half the interval has passed, so that short steps are in whole. Throws the
  // error of a heartbeat that could not be written since.
  void update(const Totals& totals);
  // The last record; nothing is written after it.
  void exit(const std::string& reason, ExitCode code);

 private:
  using Clock = std::chrono::steady_clock;
  void beat_until_stopped();
  void stop();

  Ledger ledger_;  // of the thread while it runs
  Clock::duration interval_;
  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::optional<Totals> begin_;  // of the first update, until a record says them
  std::optional<Totals> totals_;
  bool fresh_ = false;  // there are totals of a later update that no record has yet
  bool stopped_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace jevons
