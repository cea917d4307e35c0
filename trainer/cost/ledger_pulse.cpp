#include "trainer/cost/ledger_pulse.h"

#include <utility>

namespace jevons {

LedgerPulse::LedgerPulse(Ledger ledger, std::chrono::duration<double> interval)
    : ledger_(std::move(ledger)),
      interval_(std::chrono::duration_cast<Clock::duration>(interval)),
      thread_([this] { beat_until_stopped(); }) {}

LedgerPulse::~LedgerPulse() {
  stop();
}

void LedgerPulse::update(const Totals& totals) {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (totals_) {
    fresh_ = true;
  } else {
    begin_ = totals;
  }
  totals_ = totals;
  changed_.notify_one();
}

void LedgerPulse::exit(const std::string& reason, ExitCode code) {
  stop();
  if (begin_) ledger_.heartbeat(begin_);
  ledger_.exit(reason, code, totals_);
}

void LedgerPulse::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void LedgerPulse::beat_until_stopped() {
  Clock::time_point last = Clock::now();
  std::unique_lock lock(mutex_);
  const auto is_due = [&] { return stopped_ || begin_ || (fresh_ && Clock::now() - last >= interval_ / 2); };
  while (!stopped_ && !failure_) {
    changed_.wait_until(lock, last + interval_, is_due);
    if (stopped_) return;
    const std::optional<Totals> totals = begin_ ? begin_ : totals_;
    if (!begin_) fresh_ = false;
    begin_.reset();
    last = Clock::now();
    lock.unlock();  // a slow disk must not hold up training
    std::exception_ptr failure;
    try {
      ledger_.heartbeat(totals);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
  }
}

}  // namespace jevons
