#include "data/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "data/input_format.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kFileBytes = std::size_t{256} << 10;
constexpr std::size_t kTextBytes = std::size_t{1} << 20;

// "x.jsonl" for "x.jsonl.gz" and the like; what the ending says in `compression`.
std::string without_compression(const std::string& name, Compression& compression) {
  struct Ending {
    std::string_view text;
    Compression compression;
  };
  for (const Ending& ending : {Ending{".gz", Compression::kGzip}, Ending{".zst", Compression::kZstd}}) {
    if (!ends_with_any_case(name, ending.text)) continue;
    compression = ending.compression;
    return name.substr(0, name.size() - ending.text.size());
  }
  return name;
}

}  // namespace

Input::Input(const std::string& path) : file_(kFileBytes), text_(kTextBytes) {
  open(path);
  try {
    recognise();
  } catch (...) {
    if (fd_ != STDIN_FILENO) close(fd_);
    throw;
  }
}

Input::~Input() {
  if (fd_ != STDIN_FILENO) close(fd_);
}

void Input::open(const std::string& path) {
  const bool standard = path == kStandardInput;
  name_ = standard ? "standard input" : path;
  fd_ = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) fail(ExitCode::kData, "cannot open '{}': {}", path, std::strerror(errno));
  posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

void Input::recognise() {
  read_file();
  const std::string_view head(reinterpret_cast<const char*>(encoded_.data()), encoded_.size());
  compression_ = compression_of(head);
  Compression by_name = compression_;
  text_name_ = without_compression(name_, by_name);
  if (by_name != compression_) {
    fail(ExitCode::kData, "{}: the name says {}, the content does not{}", name_, name_of(by_name),
         head.empty() ? ": the file is empty" : "; rename it to what it is");
  }
  decoder_ = make_decoder(compression_);
}

// More stored bytes, as many as one read gives at the least: of a pipe whatever is there.
void Input::read_file() {
  std::size_t size = 0;
  while (size < file_.size() && !file_ended_) {
    const ssize_t got = ::read(fd_, file_.data() + size, file_.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      fail(ExitCode::kData, "{}: offset {}: cannot read: {}", name_, file_bytes_, std::strerror(errno));
    file_ended_ = got == 0;
    size += static_cast<std::size_t>(got);
    file_bytes_ += static_cast<std::uint64_t>(got);
  }
  encoded_ = std::span(file_).first(size);
}

// One step: from the file to the text, of which there is more afterwards unless it has ended.
void Input::decode() {
  if (encoded_.empty() && !file_ended_) read_file();
  std::span<std::byte> room = std::span(text_).subspan(end_);
  const std::size_t before = room.size();
  const std::string problem = decoder_->step(encoded_, room);
  const std::uint64_t offset = file_bytes_ - encoded_.size();
  if (!problem.empty()) {
    fail(ExitCode::kData, "{}: offset {}: the {} data is damaged: {}", name_, offset, name_of(compression_),
         problem);
  }
  end_ += before - room.size();
  if (before != room.size() || !encoded_.empty() || !file_ended_) return;
  if (!decoder_->complete()) {
    fail(ExitCode::kData, "{}: offset {}: the {} data ends too early: the file is truncated", name_, offset,
         name_of(compression_));
  }
  ended_ = true;
}

std::string_view Input::next(std::size_t size) {
  if (end_ - begin_ < size && !ended_) {
    std::memmove(text_.data(), text_.data() + begin_, end_ - begin_);
    end_ -= begin_, begin_ = 0;
    if (text_.size() < size) text_.resize(size);
    while (end_ < text_.size() && !ended_) decode();
  }
  return {reinterpret_cast<const char*>(text_.data()) + begin_, end_ - begin_};
}

std::optional<Input::Line> Input::next_line() {
  std::size_t searched = 0;
  std::string_view text = next(1);
  for (;;) {
    const std::size_t newline = text.find('\n', searched);
    if (newline != std::string_view::npos || ended_) {
      if (text.empty()) return std::nullopt;
      const std::size_t bytes = newline == std::string_view::npos ? text.size() : newline + 1;
      std::string_view line = text.substr(0, std::min(newline, text.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      return Line{line, bytes};
    }
    searched = text.size();
    if (searched > kLongestRecord) fail(ExitCode::kData, "{}: a line of more than 1 GiB", name_);
    text = next(std::max(2 * searched, text_.size()));
  }
}

}  // namespace jevons
