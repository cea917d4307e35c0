#include "data/document_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;  // fits the L2 cache together with its ids

// How much of `text` is handed on at once: up to its last newline if it has one within a piece.
std::size_t piece_size(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  const std::size_t newline = text.rfind('\n', kPieceBytes - 1);
  return newline == std::string_view::npos ? kPieceBytes : newline + 1;
}

void send_document(std::string_view document, DocumentSink& sink) {
  while (!document.empty()) {
    const std::size_t size = piece_size(document);
    sink.text(document.substr(0, size));
    document.remove_prefix(size);
  }
  sink.end_document();
}

// Hands text on as documents, of which a separator line ends one. Lines may come in parts.
class TextCutter {
 public:
  TextCutter(const std::string& separator_line, DocumentSink& sink)
      : separator_(separator_line), sink_(sink) {}

  // `text` ends behind a newline, or it is all of the rest, or it has no newline and is longer than any
  // separator line.
  void add(std::string_view text) {
    std::size_t sent = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t newline = text.find('\n', at);
      const std::size_t end = std::min(newline, text.size());
      const std::size_t next = newline == std::string_view::npos ? text.size() : newline + 1;
      std::string_view line = text.substr(at, end - at);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (in_line_ || line != separator_) {
        in_line_ = newline == std::string_view::npos;
      } else {
        send(text.substr(sent, at - sent));
        sink_.end_document();
        sent = next;
      }
      at = next;
    }
    send(text.substr(sent));
  }

 private:
  void send(std::string_view part) {
    if (!part.empty()) sink_.text(part);
  }

  const std::string& separator_;
  DocumentSink& sink_;
  bool in_line_ = false;  // the text begins inside a line
};

struct Record {
  std::string_view json;
  std::string place;  // "file:line"
  const char* unit;   // of a position in it, for messages
};

// The text of a record, or what is wrong with it.
struct RecordText {
  std::string text, problem;
};

RecordText text_of(const Record& record, const std::string& key) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(record.json);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view what = error.what();  // "[id] parse error at line 1, column N: reason"
    return {"", fmt::format("{}: not valid JSON at {} {}{}", record.place, record.unit, error.byte,
                            what.substr(std::min(what.find(": "), what.size())))};
  }
  if (!object.is_object())
    return {"", fmt::format("{}: expected an object, found {}", record.place, object.type_name())};
  const auto found = object.find(key);
  if (found == object.end()) return {"", fmt::format("{}: the object has no key \"{}\"", record.place, key)};
  if (!found->is_string())
    return {"", fmt::format("{}: \"{}\" is not a string but {}", record.place, key, found->type_name())};
  return {std::move(found->get_ref<std::string&>()), ""};
}

void send_record(const Record& record, const JsonRecords& records, DocumentSink& sink) {
  const RecordText text = text_of(record, records.key);
  if (!text.problem.empty()) return records.on_bad_record(text.problem);
  send_document(text.text, sink);
}

bool is_one_of(char c, std::string_view set) {
  return set.find(c) != std::string_view::npos;
}

// Finds the end of a JSON value that comes in parts.
class ValueEnd {
 public:
  // Whether the value ends in `text`, its beginning so far; then at size(). Looks at what was added since the
  // last call.
  bool find_in(std::string_view text) {
    for (; at_ < text.size(); ++at_) {
      const char c = text[at_];
      if (in_string_) {
        if (escaped_) {
          escaped_ = false;
        } else if (c == '\\') {
          escaped_ = true;
        } else if (c == '"') {
          in_string_ = false;
        }
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if (depth_ == 0 && is_one_of(c, " \t\r\n,]}")) {
        return true;  // behind a number, a word or a string
      } else if ((c == '}' || c == ']') && --depth_ == 0) {
        ++at_;
        return true;
      }
    }
    return false;
  }
  std::size_t size() const { return at_; }

 private:
  std::size_t at_ = 0;
  std::int64_t depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

// Walks over the values of a JSON text.
class JsonCutter {
 public:
  explicit JsonCutter(Input& input) : input_(input) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (input_.next(kByteOrderMark.size()).starts_with(kByteOrderMark)) consume(kByteOrderMark.size());
  }

  // The next record, or nothing at the end. Valid until the next call.
  std::optional<Record> next() {
    consume(record_bytes_);
    for (;;) {
      const std::optional<char> c = next_character();
      if (!c && in_array_) failed("the text ends inside the array");
      if (!c) return std::nullopt;
      if (!in_array_ && *c == '[') {
        in_array_ = true, expected_ = Expected::kFirst;
      } else if (in_array_ && *c == ']' && expected_ != Expected::kValue) {
        in_array_ = false;
      } else if (in_array_ && *c == ',' && expected_ == Expected::kComma) {
        expected_ = Expected::kValue;
      } else if (in_array_ ? expected_ != Expected::kComma && !is_one_of(*c, ",]}") : *c == '{') {
        return record();
      } else {
        failed(in_array_ ? "expected a comma or the end of the array, found"
                         : "expected an object or an array of objects, found",
               *c);
      }
      consume(1);
    }
  }

 private:
  enum class Expected { kFirst, kValue, kComma };  // in an array

  std::optional<char> next_character() {
    for (std::string_view text = input_.next(1); !text.empty(); text = input_.next(1)) {
      const std::size_t space = std::min(text.find_first_not_of(" \t\r\n"), text.size());
      const auto found = space < text.size() ? std::optional(text[space]) : std::nullopt;
      consume(space);
      if (found) return found;
    }
    return std::nullopt;
  }

  Record record() {
    ValueEnd end;
    std::string_view text = input_.next(1);
    while (!end.find_in(text)) {
      const std::size_t seen = text.size();
      if (seen > Input::kLongestRecord) failed("a value of more than 1 GiB begins here");
      text = input_.next(2 * seen);
      if (text.size() == seen) failed("the text ends inside the value that begins here");
    }
    expected_ = Expected::kComma;
    record_bytes_ = end.size();
    return {text.substr(0, end.size()), place(), "character"};
  }

  void consume(std::size_t size) {
    const std::string_view done = input_.next(size).substr(0, size);
    line_ += static_cast<std::size_t>(std::count(done.begin(), done.end(), '\n'));
    input_.consume(size);
    record_bytes_ = 0;
  }

  std::string place() const { return fmt::format("{}:{}", input_.name(), line_); }

  [[noreturn]] void failed(const char* what, std::optional<char> found = {}) const {
    fail(ExitCode::kData, "{}: not valid JSON: {}{}", place(), what,
         found ? fmt::format(" '{}'", *found) : std::string());
  }

  Input& input_;
  std::size_t line_ = 1;
  std::size_t record_bytes_ = 0;  // of the record that was handed out
  bool in_array_ = false;
  Expected expected_ = Expected::kValue;
};

}  // namespace

void read_text(Input& input, const std::optional<std::string>& separator_line, DocumentSink& sink) {
  std::optional<TextCutter> cutter;
  if (separator_line) {
    if (separator_line->size() >= kPieceBytes / 2) fail(ExitCode::kUsage, "the separator line is too long");
    cutter.emplace(*separator_line, sink);
  }
  for (;;) {
    const std::string_view text = input.next(kPieceBytes + 1);
    if (text.empty()) break;
    const std::string_view piece = text.substr(0, piece_size(text));
    cutter ? cutter->add(piece) : sink.text(piece);
    input.consume(piece.size());
    sink.consumed(input.file_bytes());
  }
  sink.end_document();
}

void read_jsonl(Input& input, const JsonRecords& records, DocumentSink& sink) {
  std::size_t number = 0;
  while (const std::optional<Input::Line> line = input.next_line()) {
    ++number;
    if (line->text.find_first_not_of(" \t") != std::string_view::npos) {
      send_record({line->text, fmt::format("{}:{}", input.name(), number), "column"}, records, sink);
    }
    input.consume(line->bytes);
    sink.consumed(input.file_bytes());
  }
}

void read_json(Input& input, const JsonRecords& records, DocumentSink& sink) {
  JsonCutter cutter(input);
  while (const std::optional<Record> record = cutter.next()) {
    send_record(*record, records, sink);
    sink.consumed(input.file_bytes());
  }
}

}  // namespace jevons
