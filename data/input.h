// The text of a file, a pipe or standard input from its beginning to its end, decompressed where it is gzip
// or Zstandard. Memory does not grow with its length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/decoder.h"

namespace jevons {

inline constexpr const char* kStandardInput = "-";

class Input {
 public:
  static constexpr std::size_t kLongestRecord = std::size_t{1} << 30;  // bytes of a line or a JSON value

  // kStandardInput or a path. Throws Error(kData) if it cannot be read, or if its name says .gz or .zst and
  // its content does not.
  explicit Input(const std::string& path);
  ~Input();
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // The text that comes next: at least `size` bytes unless it ends before. Valid until the next call. Throws
  // Error(kData) naming file and offset for damaged or truncated data.
  std::string_view next(std::size_t size);
  // The next `size` bytes, which next() gave, are done.
  void consume(std::size_t size) { begin_ += size; }
  // The next line without its line end, CR LF included, is in next(); how many bytes it takes with it.
  // Nothing at the end of the text. Throws Error(kData) for lines longer than 1 GiB.
  struct Line {
    std::string_view text;
    std::size_t bytes;
  };
  std::optional<Line> next_line();

  const std::string& name() const { return name_; }            // for messages
  const std::string& text_name() const { return text_name_; }  // without .gz or .zst
  // Bytes of the file, as it is stored, that were read.
  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  void open(const std::string& path);
  void recognise();
  void read_file();
  void decode();

  std::string name_, text_name_;
  int fd_ = -1;
  std::uint64_t file_bytes_ = 0;
  std::vector<std::byte> file_;         // bytes as they are stored
  std::span<const std::byte> encoded_;  // those of them that are not decoded yet
  bool file_ended_ = false, ended_ = false;
  Compression compression_ = Compression::kNone;
  std::unique_ptr<Decoder> decoder_;
  std::vector<std::byte> text_;      // decoded
  std::size_t begin_ = 0, end_ = 0;  // of it, what is not consumed
};

}  // namespace jevons
