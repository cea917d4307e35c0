// Cuts inputs into documents.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "data/input.h"

namespace jevons {

// Receives the documents of an input, in order. Calls of text() between two of end_document() make up one
// document; long ones come in pieces (see Tokenizer::encode), empty ones in none.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void text(std::string_view piece) = 0;
  virtual void end_document() = 0;
  virtual void consumed(std::uint64_t file_bytes) = 0;  // bytes of this file that are done, as it is stored
};

// Without separator_line the input is one document; with it, a line equal to it (CR LF allowed) ends one and
// belongs to none. An empty separator_line means blank lines.
void read_text(Input& input, const std::optional<std::string>& separator_line, DocumentSink& sink);

struct JsonRecords {
  std::string key = "text";  // whose value, a string, is a document
  // What to do about a record that gives no text; `problem` is "file:line: what". It may throw.
  std::function<void(const std::string& problem)> on_bad_record;
};

// One JSON object per line; blank lines are skipped. What a line has wrong goes to on_bad_record.
void read_jsonl(Input& input, const JsonRecords& records, DocumentSink& sink);

// Objects in an array, or one after another, over as many lines as they like. Throws Error(kData) as
// "file:line: what" where it cannot be told where the next one begins.
void read_json(Input& input, const JsonRecords& records, DocumentSink& sink);

}  // namespace jevons
