// How long a worker's process lives, from before MPI is initialised: a file of its own, <run_dir>/alive/ID,
// with what is known of the start and the age of the process, written in place again and again by a thread.
// What is in it when the process is killed bounds its life to one interval; lives.h reads it. Format:
// docs/cost.md.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "trainer/cost/ledger.h"
#include "trainer/io/file.h"

namespace jevons {

// Between two signs of a worker that is `age` seconds old: 5 % of its age, at least 5 ms and at most 100 ms,
// so that short lives are as well known as long ones; but no more than 1,000 signs a second of the whole job,
// for the sake of the file system.
std::chrono::duration<double> sign_interval(std::int64_t workers, double age);

class SignOfLife {
 public:
  // As the launcher's environment tells.
  struct Worker {
    int rank = 0;
    std::string job;  // the same for all workers of a start, or of a start on one host
  };
  // `info`: what is known of the start; hosts and launch are filled in. Rank 0 makes the run directory and an
  // empty ledger if there are none; other workers write as soon as they see the directory. Where nothing can
  // be written there are no signs, and no error: the run itself will say why.
  SignOfLife(const std::string& run_dir, LaunchInfo info, const Worker& worker,
             std::chrono::steady_clock::time_point process_start);
  // The end of this process, as near as can be. Once booked, rank 0 writes the end record, and the file goes;
  // else it stays as the account of this worker.
  ~SignOfLife();
  SignOfLife(const SignOfLife&) = delete;
  SignOfLife& operator=(const SignOfLife&) = delete;

  // Identity of the start: rank 0's; on other ranks empty until join().
  const std::string& launch() const { return info_.launch; }
  // MPI has started: what the workers now know for certain.
  void join(const std::string& launch, int rank, std::int64_t workers);
  // The launch has its record in the ledger, which rank 0 alone may write until the process ends.
  void booked();
  // A start that ends by itself before that.
  void end_by_error(const std::string& reason, ExitCode code) noexcept;
  // This is no start of a run: the file goes, and on rank 0 what was made for it and is empty.
  void withdraw() noexcept;

 private:
  enum class Fate : std::uint8_t { kStays, kBooked, kWithdrawn };
  void make_directories();
  void open_file();
  void sign();
  void append(const std::string& line);
  void keep_up();
  void stop();
  double elapsed() const;

  std::string run_dir_, id_;
  LaunchInfo info_;
  Worker worker_;
  std::chrono::steady_clock::time_point process_start_;
  double start_time_;              // seconds since 1970, UTC
  std::vector<std::string> made_;  // directories, outermost first
  std::string path_;

  std::mutex mutex_;  // of all below, and of info_
  std::condition_variable changed_;
  std::optional<File> file_;
  std::uint64_t sign_offset_ = 0, size_ = 0;
  Fate fate_ = Fate::kStays;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace jevons
