#include "data/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "kernels/core/error.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

fs::path directory_of(const std::string& path) {
  const fs::path directory = fs::path(path).parent_path();
  return directory.empty() ? fs::path(".") : directory;
}

// A rename lasts only once its directory is on the disk.
bool sync_directory(const fs::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = fsync(fd) == 0;
  close(fd);
  return done;
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, getpid())) {
  std::error_code error;
  fs::create_directories(directory_of(path_), error);  // a failure shows in open()
  fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(ExitCode::kUsage, "cannot create '{}': {}", temporary_, std::strerror(errno));
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void AtomicFile::failed(const char* action) const {
  fail(ExitCode::kFailure, "cannot {} '{}': {}", action, temporary_, std::strerror(errno));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void AtomicFile::flush() {
  const std::uint64_t at = flushed_;
  flushed_ += buffer_.size();
  write_at(at, buffer_);
  buffer_.clear();
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (offset + bytes.size() > flushed_) flush();
  ENSURE(offset + bytes.size() <= flushed_, "write at {} + {} of {}", offset, bytes.size(), flushed_);
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) failed("write");
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) {
  if (offset + bytes.size() > flushed_) flush();
  ENSURE(offset + bytes.size() <= flushed_, "read at {} + {} of {}", offset, bytes.size(), flushed_);
  while (!bytes.empty()) {
    const ssize_t got = pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) failed("read back");
    offset += static_cast<std::uint64_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
}

void AtomicFile::commit() {
  flush();
  if (fsync(fd_) != 0) failed("sync");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) failed("rename");
  close(std::exchange(fd_, -1));
  if (!sync_directory(directory_of(path_))) failed("sync the directory of");
}

}  // namespace jevons
