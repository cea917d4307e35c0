// Documents into a token file: their text in stretches to an EncoderPool, the ids to a TokenWriter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/document_reader.h"
#include "data/encoder_pool.h"
#include "data/progress.h"
#include "data/token_writer.h"

namespace jevons {

class TokenSink final : public DocumentSink {
 public:
  struct Settings {
    std::int32_t separator = 0;
    Specials specials = Specials::kAreText;
    int threads = 1;
  };
  TokenSink(const Tokenizer& tokenizer, const Settings& settings, TokenWriter& writer,
            ProgressLine& progress);

  void text(std::string_view piece) override;
  // One without tokens is none.
  void end_document() override;
  void consumed(std::uint64_t file_bytes) override { progress_.update(files_before_ + file_bytes); }
  void end_file(std::uint64_t file_bytes) { files_before_ += file_bytes; }
  // The last ids to the writer.
  void finish();

  std::uint64_t text_bytes() const { return text_bytes_; }
  std::uint64_t nuls() const { return nuls_; }
  std::uint64_t input_bytes() const { return files_before_; }

 private:
  void cut_document();
  void close_part(std::size_t end, bool ends_document);
  void submit(std::size_t size);
  void write(const EncodedJob& job);

  const Tokenizer& tokenizer_;
  std::int32_t separator_;
  TokenWriter& writer_;
  ProgressLine& progress_;
  EncodeJob job_;                          // that is being filled
  std::size_t part_begin_ = 0;             // of the open part in its text
  std::size_t looked_at_ = 0;              // up to there, no place to cut was found
  TextPart place_ = TextPart::kBeginning;  // of the open part
  std::size_t document_tokens_ = 0;        // written of the open document
  std::uint64_t text_bytes_ = 0, nuls_ = 0;
  std::uint64_t files_before_ = 0;  // bytes of the files that are done
  EncoderPool pool_;
};

}  // namespace jevons
