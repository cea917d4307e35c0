#include "data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace jevons {
namespace {

std::size_t page_size() {
  return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

// madvise wants the start of a page; the end may lie anywhere.
void advise(const std::byte* data, std::size_t offset, std::size_t size, int advice) {
  const std::size_t begin = offset / page_size() * page_size();
  madvise(const_cast<std::byte*>(data) + begin, offset + size - begin, advice);
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ExitCode::kData, "cannot open '{}': {}", path_, std::strerror(errno));
  struct stat info {};
  const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  void* map = nullptr;
  if (regular && info.st_size > 0) {
    size_ = static_cast<std::size_t>(info.st_size);
    map = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  close(fd);
  if (!regular) fail(ExitCode::kData, "'{}' is not a regular file", path_);
  if (map == MAP_FAILED) fail(ExitCode::kData, "cannot map '{}': {}", path_, std::strerror(error));
  data_ = static_cast<const std::byte*>(map);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::expect_sequential() const {
  if (size_ > 0) advise(data_, 0, size_, MADV_SEQUENTIAL);
}

void MappedFile::load(std::size_t offset, std::size_t size) const {
  ENSURE(offset <= size_ && size <= size_ - offset, "range {} + {} of {} bytes", offset, size, size_);
  if (size == 0) return;
  advise(data_, offset, size, MADV_WILLNEED);
  // Reading one byte a page also puts it into this process's page table.
  const volatile std::byte* bytes = data_;
  for (std::size_t at = offset; at < offset + size; at += page_size()) (void)bytes[at];
  (void)bytes[offset + size - 1];
}

void MappedFile::release(std::size_t offset, std::size_t size) const {
  ENSURE(offset <= size_ && size <= size_ - offset, "range {} + {} of {} bytes", offset, size, size_);
  if (size > 0) advise(data_, offset, size, MADV_DONTNEED);
}

}  // namespace jevons
