// One run at a time in a run directory: rank 0 holds an exclusive flock on <run_dir>/lock. The kernel
// releases it when the process ends, however it ends, so no lock is ever stale.
#pragma once

#include <chrono>
#include <string>

namespace jevons {

class RunLock {
 public:
  // Waits up to `patience` for a run that is about to end. Throws Error(kUsage) naming host and process of
  // the run that holds the directory. On file systems without locks: a warning, and no protection.
  RunLock(const std::string& run_dir, std::chrono::milliseconds patience);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace jevons
