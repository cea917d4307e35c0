#include "data/prepare.h"

#include <memory>
#include <span>
#include <string_view>

#include "data/document_reader.h"
#include "data/mapped_file.h"
#include "data/progress.h"
#include "data/token_writer.h"
#include "data/tokenizer.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

// Encodes documents into a writer and shows how far it is.
class TokenSink final : public DocumentSink {
 public:
  TokenSink(const Tokenizer& tokenizer, TokenWriter& writer, ProgressLine& progress)
      : tokenizer_(tokenizer), writer_(writer), progress_(progress) {}

  void text(std::string_view piece) override {
    ids_.clear();
    tokenizer_.encode(piece, ids_);
    writer_.append(ids_);
    text_bytes_ += piece.size();
  }
  void end_document() override {
    const std::int32_t separator = tokenizer_.separator();
    writer_.append({&separator, 1});
    writer_.end_document();
  }
  void consumed(std::uint64_t file_bytes) override { progress_.update(files_before_ + file_bytes); }
  void end_file(std::uint64_t file_bytes) { files_before_ += file_bytes; }

  std::uint64_t text_bytes() const { return text_bytes_; }

 private:
  const Tokenizer& tokenizer_;
  TokenWriter& writer_;
  ProgressLine& progress_;
  std::vector<std::int32_t> ids_;
  std::uint64_t text_bytes_ = 0;
  std::uint64_t files_before_ = 0;  // bytes of the files that are done
};

bool is_jsonl(const std::string& path, InputFormat format) {
  if (format != InputFormat::kAuto) return format == InputFormat::kJsonl;
  return path.ends_with(".jsonl") || path.ends_with(".ndjson");
}

}  // namespace

PrepareSummary prepare_tokens(const PrepareOptions& options) {
  if (options.inputs.empty()) fail(ExitCode::kUsage, "no input file is given");
  if (options.output.empty()) fail(ExitCode::kUsage, "no output prefix is given");
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(options.tokenizer);

  PrepareSummary summary;
  std::vector<MappedFile> files;  // opened first: a missing one is known before the work starts
  for (const std::string& path : options.inputs) {
    files.emplace_back(path);
    summary.input_bytes += files.back().bytes().size();
  }
  summary.bin_path = options.output + ".bin";
  summary.idx_path = options.output + ".idx";
  summary.dtype = token_dtype_for(tokenizer->vocab_size());

  ProgressLine progress(summary.input_bytes);
  TokenWriter writer(options.output, summary.dtype);
  TokenSink sink(*tokenizer, writer, progress);
  for (const MappedFile& file : files) {
    if (is_jsonl(file.path(), options.format)) {
      read_jsonl(file, options.json_key, sink);
    } else {
      read_text(file, options.separator_line, sink);
    }
    sink.end_file(file.bytes().size());
  }
  if (writer.num_documents() == 0) fail(ExitCode::kData, "the input holds no text");
  writer.commit();

  summary.documents = writer.num_documents();
  summary.tokens = writer.num_tokens();
  summary.text_bytes = sink.text_bytes();
  summary.seconds = progress.seconds();
  return summary;
}

}  // namespace jevons
