// Read-only memory map of a whole file. Files must not shrink while mapped: the kernel answers with SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace jevons {

class MappedFile {
 public:
  // Throws Error(kData) if `path` is not a readable regular file. An empty file gives an empty span.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Hints to the kernel; each takes a range inside the file and changes no content.
  void expect_sequential() const;
  void load(std::size_t offset, std::size_t size) const;     // reads the pages of the range into memory
  void release(std::size_t offset, std::size_t size) const;  // these pages are not needed again soon

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace jevons
