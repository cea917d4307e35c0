#include "trainer/cost/sign_of_life.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "kernels/core/host_name.h"
#include "trainer/cost/ledger_json.h"
#include "trainer/cost/lives.h"
#include "trainer/io/clock.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kShortestInterval = 0.005, kLongestInterval = 0.1;  // seconds
constexpr double kIntervalOfAge = 0.05;
constexpr double kSignsPerSecond = 1000;  // of all workers

// Always of the same length, so that it can be written over itself.
std::string sign_line(double elapsed) {
  return seal_ledger_line(fmt::format("{{\"kind\":\"alive\",\"elapsed\":{:18.6f}}}", elapsed)) + "\n";
}

std::string exit_line(const std::string& reason, ExitCode code) {
  return ledger_line({{"kind", "exit"}, {"reason", reason}, {"code", static_cast<int>(code)}});
}

}  // namespace

std::chrono::duration<double> sign_interval(std::int64_t workers, double age) {
  const double own = std::clamp(kIntervalOfAge * age, kShortestInterval, kLongestInterval);
  return std::chrono::duration<double>(std::max(own, static_cast<double>(workers) / kSignsPerSecond));
}

SignOfLife::SignOfLife(const std::string& run_dir, LaunchInfo info, const Worker& worker,
                       Clock::time_point process_start)
    : run_dir_(run_dir),
      id_(new_identity()),
      info_(std::move(info)),
      worker_(worker),
      process_start_(process_start),
      start_time_(unix_time() - elapsed()),
      path_(alive_directory(run_dir) + "/" + id_) {
  info_.hosts = {host_name()};
  info_.launch = worker_.rank == 0 ? id_ : "";
  if (worker_.rank == 0) make_directories();
  open_file();
  thread_ = std::thread([this] { keep_up(); });
}

SignOfLife::~SignOfLife() {
  stop();
  if (fate_ == Fate::kWithdrawn) return;
  if (fate_ == Fate::kStays) {
    sign();
    return;
  }
  const double life = elapsed();
  try {
    if (worker_.rank == 0) {
      append_launch_end(ledger_of(run_dir_), info_.launch, {life, life * static_cast<double>(info_.devices)});
    }
    if (file_) remove_file(path_);
  } catch (const std::exception&) {
    sign();
  }
}

void SignOfLife::join(const std::string& launch, int rank, std::int64_t workers) {
  const std::lock_guard lock(mutex_);
  info_.launch = launch, info_.devices = workers, worker_.rank = rank;
  append(ledger_line({{"kind", "joined"}, {"launch", launch}, {"rank", rank}}));
}

void SignOfLife::booked() {
  const std::lock_guard lock(mutex_);
  fate_ = Fate::kBooked;
}

void SignOfLife::end_by_error(const std::string& reason, ExitCode code) noexcept {
  const std::lock_guard lock(mutex_);
  if (fate_ == Fate::kStays) append(exit_line(reason, code));
}

void SignOfLife::withdraw() noexcept {
  stop();
  fate_ = Fate::kWithdrawn;
  std::error_code ignored;
  if (file_) fs::remove(path_, ignored);
  const std::string alive = alive_directory(run_dir_);
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
    // Another start may have come to use it.
    if (!fs::remove(*made, ignored)) return;
    if (*made == alive && fs::is_empty(ledger_of(run_dir_), ignored)) {
      fs::remove(ledger_of(run_dir_), ignored);
    }
  }
}

void SignOfLife::make_directories() {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path at = alive_directory(run_dir_); !at.empty() && !fs::exists(at, error);
       at = at.parent_path()) {
    missing.push_back(at);
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (fs::create_directory(*at, error)) made_.push_back(at->string());
  }
  try {
    File::append(ledger_of(run_dir_));
  } catch (const Error&) {
  }
}

// Locked before it gets its name, so that whoever reads it knows whether its process lives.
void SignOfLife::open_file() {
  const std::string unnamed = fmt::format("{}/.{}", alive_directory(run_dir_), id_);
  try {
    File file = File::create(unnamed);
    file.try_lock();
    nlohmann::ordered_json start = info_json("start", info_, start_time_, elapsed());
    start.update({{"worker", id_}, {"rank", worker_.rank}, {"job", worker_.job}});
    const std::string head = ledger_line(start);
    file.write(head + sign_line(elapsed()));
    if (std::rename(unnamed.c_str(), path_.c_str()) != 0) return;
    sign_offset_ = head.size(), size_ = file.size();
    file_ = std::move(file);
  } catch (const Error&) {
  }
}

void SignOfLife::sign() {
  if (!file_) return;
  try {
    file_->write_at(sign_offset_, sign_line(elapsed()));
  } catch (const Error&) {
    file_.reset();  // no space, no connection: the ledger's own records will fail too, and say so
  }
}

void SignOfLife::append(const std::string& line) {
  if (!file_) open_file();
  if (!file_) return;
  try {
    file_->write_at(size_, line);
    size_ += line.size();
  } catch (const Error&) {
    file_.reset();
  }
}

void SignOfLife::keep_up() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, sign_interval(info_.devices, elapsed()), [&] { return stopped_; })) {
    if (!file_ && fate_ == Fate::kStays) open_file();
    sign();
  }
}

void SignOfLife::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

double SignOfLife::elapsed() const {
  return std::chrono::duration<double>(Clock::now() - process_start_).count();
}

}  // namespace jevons
