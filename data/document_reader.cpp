#include "data/document_reader.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;   // fits the L2 cache together with its ids
constexpr std::size_t kReleaseBytes = std::size_t{64} << 20;  // input kept in memory behind the reader

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Reports progress and lets go of what was read, so that memory does not grow with the file.
class Trail {
 public:
  Trail(const MappedFile& file, DocumentSink& sink) : file_(file), sink_(sink) { file.expect_sequential(); }

  void reached(std::size_t offset) {
    sink_.consumed(offset);
    if (offset - released_ < kReleaseBytes) return;
    file_.release(released_, offset - released_);
    released_ = offset;
  }

 private:
  const MappedFile& file_;
  DocumentSink& sink_;
  std::size_t released_ = 0;
};

// How much of `rest` is handed on at once: up to its last newline if it has one within a piece.
std::size_t piece_size(std::string_view rest) {
  if (rest.size() <= kPieceBytes) return rest.size();
  const std::size_t newline = rest.rfind('\n', kPieceBytes - 1);
  return newline == std::string_view::npos ? kPieceBytes : newline + 1;
}

// Calls after_piece(bytes sent so far) behind every piece.
template <class F>
void send_document(std::string_view document, DocumentSink& sink, F&& after_piece) {
  if (document.empty()) return;
  for (std::size_t sent = 0; sent < document.size();) {
    const std::string_view rest = document.substr(sent);
    const std::size_t size = piece_size(rest);
    sink.text(rest.substr(0, size));
    after_piece(sent += size);
  }
  sink.end_document();
}

// The line that begins at `begin`, without its newline, and where the next one begins.
struct Line {
  std::string_view text;
  std::size_t next;
};

Line line_at(std::string_view text, std::size_t begin) {
  const void* newline = std::memchr(text.data() + begin, '\n', text.size() - begin);
  const std::size_t end = newline == nullptr
                              ? text.size()
                              : static_cast<std::size_t>(static_cast<const char*>(newline) - text.data());
  std::string_view line = text.substr(begin, end - begin);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return {line, newline == nullptr ? end : end + 1};
}

std::string text_at_key(std::string_view line, const std::string& key, const std::string& place) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view what = error.what();  // "[id] parse error at line 1, column N: reason"
    fail(ExitCode::kData, "{}: not valid JSON at column {}{}", place, error.byte,
         what.substr(what.find(": ")));
  }
  if (!object.is_object())
    fail(ExitCode::kData, "{}: expected an object, found {}", place, object.type_name());
  const auto found = object.find(key);
  if (found == object.end()) fail(ExitCode::kData, "{}: the object has no key \"{}\"", place, key);
  if (!found->is_string())
    fail(ExitCode::kData, "{}: \"{}\" is not a string but {}", place, key, found->type_name());
  return std::move(found->get_ref<std::string&>());
}

}  // namespace

void read_text(const MappedFile& file, const std::optional<std::string>& separator_line, DocumentSink& sink) {
  const std::string_view text = text_of(file);
  Trail trail(file, sink);
  std::size_t begin = 0;  // of the open document
  const auto send_until = [&](std::size_t end) {
    send_document(text.substr(begin, end - begin), sink,
                  [&](std::size_t sent) { trail.reached(begin + sent); });
  };
  for (std::size_t at = 0; separator_line && at < text.size();) {
    const Line line = line_at(text, at);
    if (line.text == *separator_line) {
      send_until(at);
      begin = line.next;
    }
    at = line.next;
  }
  send_until(text.size());
  trail.reached(text.size());  // past a separator at the end
}

void read_jsonl(const MappedFile& file, const std::string& key, DocumentSink& sink) {
  const std::string_view text = text_of(file);
  Trail trail(file, sink);
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size(); trail.reached(at)) {
    const Line line = line_at(text, at);
    ++number;
    at = line.next;
    if (line.text.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", file.path(), number);
    send_document(text_at_key(line.text, key, place), sink, [](std::size_t) {});
  }
}

}  // namespace jevons
