// The disk under the run directory: what a checkpoint's bytes and a heartbeat's fsync cost.
#include <fmt/core.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "trainer/commands/doctor_checks.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kBlock = std::size_t{1} << 20, kBlocks = 64;
constexpr int kSyncs = 21;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A file that is gone at the end.
class ScratchFile {
 public:
  explicit ScratchFile(const fs::path& directory) : path_((directory / ".jevons-doctor-XXXXXX").string()) {
    fd_ = mkstemp(path_.data());
  }
  ~ScratchFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(path_.c_str());
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  bool is_open() const { return fd_ >= 0; }
  bool append(const std::vector<char>& bytes) const {
    return write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  }
  bool sync() const { return fsync(fd_) == 0; }

 private:
  std::string path_;
  int fd_;
};

fs::path nearest_existing(fs::path directory) {
  std::error_code error;
  directory = fs::absolute(directory, error);
  while (!fs::is_directory(directory, error) && directory.has_relative_path())
    directory = directory.parent_path();
  return directory;
}

Check unwritable(const std::string& name, const fs::path& directory) {
  return {name, Health::kBad, fmt::format("cannot write in {}: {}", directory.string(), std::strerror(errno)),
          "choose another run_dir"};
}

Check check_write_speed(const ScratchFile& file, const fs::path& directory) {
  const std::string name = "disk write";
  const std::vector<char> block(kBlock, 'j');
  const Clock::time_point start = Clock::now();
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (!file.append(block)) return unwritable(name, directory);
  }
  if (!file.sync()) return unwritable(name, directory);
  const double speed = static_cast<double>(kBlock * kBlocks) / seconds_since(start);
  Check check{name, Health::kOk, fmt::format("{}/s to {}", format_bytes(speed), directory.string()), ""};
  struct statvfs space {};
  if (statvfs(directory.c_str(), &space) == 0) {
    const double free_bytes = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
    check.finding += fmt::format(", {} free", format_bytes(free_bytes));
  }
  if (speed < 50e6) {
    check.health = Health::kWarn;
    check.advice =
        "checkpoints will hold up training; choose a faster run_dir or a longer checkpoint.interval";
  }
  return check;
}

Check check_sync_latency(const ScratchFile& file, const fs::path& directory) {
  const std::string name = "disk fsync";
  const std::vector<char> record(512, 'j');
  std::vector<double> times;
  for (int i = 0; i < kSyncs; ++i) {
    const Clock::time_point start = Clock::now();
    if (!file.append(record) || !file.sync()) return unwritable(name, directory);
    times.push_back(seconds_since(start));
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  Check check{
      name, Health::kOk,
      fmt::format("median {:.2f} ms, slowest of {} {:.2f} ms", median * 1e3, kSyncs, times.back() * 1e3), ""};
  if (median > 0.1) {
    check.health = Health::kWarn;
    check.advice = "raise cost.heartbeat_seconds, or choose another run_dir";
  }
  return check;
}

}  // namespace

std::vector<Check> check_disk(const std::string& directory) {
  const fs::path place = nearest_existing(directory);
  const ScratchFile file(place);
  if (!file.is_open()) return {unwritable("disk", place)};
  return {check_write_speed(file, place), check_sync_latency(file, place)};
}

}  // namespace jevons
