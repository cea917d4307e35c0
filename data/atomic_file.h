// A file that appears whole or not at all: written under a temporary name beside its place, synced, then
// renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace jevons {

class AtomicFile {
 public:
  // Throws Error(kUsage) if nothing can be created there. Missing directories are made.
  explicit AtomicFile(std::string path);
  ~AtomicFile();  // removes the temporary file unless commit() was reached
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends; buffered. These throw Error(kFailure) with the system's reason (disk full, ...).
  void write(std::span<const std::byte> bytes);
  // Overwrites bytes that were written before.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  void read_at(std::uint64_t offset, std::span<std::byte> bytes);
  // Everything to the disk, then to its final name.
  void commit();

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return flushed_ + buffer_.size(); }

 private:
  void flush();
  [[noreturn]] void failed(const char* action) const;

  std::string path_, temporary_;
  int fd_ = -1;
  std::uint64_t flushed_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace jevons
