// Files with errors that name the path and the reason, and with durable writes. What fails on reading is bad
// data (kData); what fails on writing is a failure of the run (kFailure).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace jevons {

// An exclusive flock, without waiting. The kernel releases it when the process ends, however it ends.
enum class FileLock : std::uint8_t { kTaken, kHeld, kUnsupported };
FileLock try_lock(int descriptor);

// Owns one file descriptor; move-only.
class File {
 public:
  static File open_read(const std::string& path);
  static File create(const std::string& path);      // empties what is there
  static File create_new(const std::string& path);  // fails if something is there
  static File append(const std::string& path);      // creates it if needed; each write goes to the end
  static File update(const std::string& path);      // what exists, for reading and writing
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  const std::string& path() const { return path_; }
  std::uint64_t size() const;
  // One write() call when the file system takes the bytes whole, as it does for a line appended to a file.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Fills `out` from `offset` on; a file that ends before is an error.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;
  void write_at(std::uint64_t offset, std::string_view text);  // not of a file opened to append
  void sync();                                                 // fsync
  FileLock try_lock();

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
};

std::string read_text_file(const std::string& path);
void write_new_file(const std::string& path, std::string_view text);  // flushed; fails if something is there
void make_directories(const std::string& path);
void remove_file(const std::string& path);  // no error if there is none
// Renames and makes the new name durable.
void rename_durably(const std::string& from, const std::string& to);
void sync_directory(const std::string& path);

}  // namespace jevons
