#include "data/tokenizer.h"

#include "tests/data/temp_files.h"

namespace jevons {

TEST_CASE("Byte tokens come back as the same text", "[tokenizer]") {
  std::string every_byte;
  for (int c = 1; c < 256; ++c) every_byte.push_back(static_cast<char>(c));
  const ByteTokenizer tokenizer;
  for (const std::string& text : {every_byte, std::string(), std::string("In the beginning\n"),
                                  std::string("Ἐν ἀρχῇ ἦν ὁ λόγος 🕊 太初有道")}) {
    std::vector<std::int32_t> ids = {77};  // encode appends
    tokenizer.encoder(Specials::kAreText)->encode(text, TextPart::kBeginning, ids);
    REQUIRE(ids.size() == text.size() + 1);
    CHECK(ids[0] == 77);
    CHECK(tokenizer.decode(std::span(ids).subspan(1)) == text);
  }
}

TEST_CASE("NUL is the separator: dropped from text, nothing when decoded", "[tokenizer]") {
  const ByteTokenizer tokenizer;
  const std::vector<std::int32_t> ids = tokenizer.encode(std::string_view("a\0\0b\0", 5));
  CHECK(ids == std::vector<std::int32_t>{'a', 'b'});
  CHECK(tokenizer.separator() == 0);
  CHECK(tokenizer.decode(std::vector<std::int32_t>{'x', 0, 'y'}) == "xy");
}

TEST_CASE("Ids outside the vocabulary do not decode", "[tokenizer]") {
  const ByteTokenizer tokenizer;
  CHECK_THROWS_AS(tokenizer.decode(std::vector<std::int32_t>{256}), Error);
  CHECK_THROWS_AS(tokenizer.decode(std::vector<std::int32_t>{-1}), Error);
}

TEST_CASE("Tokenizers have names", "[tokenizer]") {
  CHECK(load_tokenizer("byte")->vocab_size() == 256);
  CHECK(contains(message_of(ExitCode::kUsage, [] { load_tokenizer("bpe"); }), "'bpe'"));
}

}  // namespace jevons
