#include "trainer/io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr mode_t kFileMode = 0644;

int open_or_fail(const std::string& path, int flags, ExitCode code) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, kFileMode);
  if (descriptor < 0) fail(code, "{}: cannot open: {}", path, std::strerror(errno));
  return descriptor;
}

}  // namespace

FileLock try_lock(int descriptor) {
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return FileLock::kHeld;
    if (errno != EINTR) return FileLock::kUnsupported;
  }
  return FileLock::kTaken;
}

File File::open_read(const std::string& path) {
  return {path, open_or_fail(path, O_RDONLY, ExitCode::kData)};
}

File File::create(const std::string& path) {
  return {path, open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC, ExitCode::kFailure)};
}

File File::create_new(const std::string& path) {
  return {path, open_or_fail(path, O_WRONLY | O_CREAT | O_EXCL, ExitCode::kFailure)};
}

File File::append(const std::string& path) {
  return {path, open_or_fail(path, O_RDWR | O_CREAT | O_APPEND, ExitCode::kFailure)};
}

File File::update(const std::string& path) {
  return {path, open_or_fail(path, O_RDWR, ExitCode::kFailure)};
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

std::uint64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail(ExitCode::kData, "{}: cannot read its size: {}", path_, std::strerror(errno));
  }
  return static_cast<std::uint64_t>(status.st_size);
}

void File::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(ExitCode::kFailure, "{}: cannot write: {}", path_, std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ExitCode::kData, "{}: cannot read: {}", path_, std::strerror(errno));
    if (got == 0) fail(ExitCode::kData, "{}: ends at byte {}, before what should be there", path_, offset);
    offset += static_cast<std::uint64_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

void File::write_at(std::uint64_t offset, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::pwrite(descriptor_, text.data(), text.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(ExitCode::kFailure, "{}: cannot write: {}", path_, std::strerror(errno));
    offset += static_cast<std::uint64_t>(written);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

FileLock File::try_lock() {
  return jevons::try_lock(descriptor_);
}

void File::sync() {
  if (::fsync(descriptor_) != 0) {
    fail(ExitCode::kFailure, "{}: cannot flush to disk: {}", path_, std::strerror(errno));
  }
}

std::string read_text_file(const std::string& path) {
  const File file = File::open_read(path);
  std::string text(file.size(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void write_new_file(const std::string& path, std::string_view text) {
  File file = File::create_new(path);
  file.write(text);
  file.sync();
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail(ExitCode::kFailure, "{}: cannot create the directory: {}", path, error.message());
}

void remove_file(const std::string& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  if (error) fail(ExitCode::kFailure, "{}: cannot remove: {}", path, error.message());
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    fail(ExitCode::kFailure, "{}: cannot rename to {}: {}", from, to, std::strerror(errno));
  }
  const auto parent = std::filesystem::path(to).parent_path();
  sync_directory(parent.empty() ? "." : parent.string());
}

void sync_directory(const std::string& path) {
  const int descriptor = open_or_fail(path, O_RDONLY | O_DIRECTORY, ExitCode::kFailure);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some network file systems cannot flush a directory and need not: there, EINVAL is no failure.
  if (result != 0 && error != EINVAL) {
    fail(ExitCode::kFailure, "{}: cannot flush the directory: {}", path, std::strerror(error));
  }
}

}  // namespace jevons
