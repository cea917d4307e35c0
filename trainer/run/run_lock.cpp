#include "trainer/run/run_lock.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <thread>

#include "kernels/core/error.h"
#include "kernels/core/host_name.h"
#include "kernels/core/log.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

constexpr auto kPause = std::chrono::milliseconds(50);

std::string this_process() {
  return fmt::format("process {} on host {} since {:%Y-%m-%d %H:%M:%S} UTC", getpid(), host_name(),
                     fmt::gmtime(std::time(nullptr)));
}

// What the holder wrote about itself.
std::string holder(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t got = pread(descriptor, text.data(), text.size() - 1, 0);
  return got > 0 ? std::string(text.data(), static_cast<std::size_t>(got)) : "an unknown process";
}

}  // namespace

RunLock::RunLock(const std::string& run_dir, std::chrono::milliseconds patience) {
  const std::string path = run_dir + "/lock";
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail(ExitCode::kFailure, "{}: cannot open: {}", path, std::strerror(errno));
  const auto deadline = std::chrono::steady_clock::now() + patience;
  FileLock attempt = try_lock(descriptor_);
  while (attempt == FileLock::kHeld && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPause);
    attempt = try_lock(descriptor_);
  }
  if (attempt == FileLock::kHeld) {
    const std::string other = holder(descriptor_);
    close(descriptor_);
    fail(ExitCode::kUsage, "{}: another run is using this directory: {}; give this one another run_dir",
         run_dir, other);
  }
  if (attempt == FileLock::kUnsupported) {
    log_warning("{}: cannot lock: {}; a second run in this directory would not be noticed", path,
                std::strerror(errno));
    return;
  }
  const std::string text = this_process();
  const bool told = ftruncate(descriptor_, 0) == 0 &&
                    pwrite(descriptor_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  if (!told) log_warning("{}: cannot write: {}", path, std::strerror(errno));
}

RunLock::~RunLock() {
  close(descriptor_);
}

}  // namespace jevons
