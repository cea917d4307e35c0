// Cuts input files into documents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/mapped_file.h"

namespace jevons {

// Receives the documents of a file, in order. Calls of text() between two of end_document() make up one
// document, which is never empty; long ones come in pieces (see Tokenizer::encode).
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void text(std::string_view piece) = 0;
  virtual void end_document() = 0;
  virtual void consumed(std::uint64_t file_bytes) = 0;  // bytes of this file that are done
};

// Without separator_line the file is one document; with it, a line equal to it (CR LF allowed) ends one and
// belongs to none. An empty separator_line means blank lines.
void read_text(const MappedFile& file, const std::optional<std::string>& separator_line, DocumentSink& sink);

// One JSON object per line, the text at `key`; blank lines are skipped. Throws Error(kData) as "file:line:
// what".
void read_jsonl(const MappedFile& file, const std::string& key, DocumentSink& sink);

}  // namespace jevons
