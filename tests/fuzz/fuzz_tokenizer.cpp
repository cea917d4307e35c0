// The readers of tokenizer files: any bytes either throw Error(kData) or give a tokenizer that encodes and
// decodes. The first byte chooses the reader.
#include <cstdlib>

#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tekken.h"
#include "data/tokenizer/tiktoken.h"
#include "data/tokenizer/tokenizer_json.h"
#include "kernels/core/error.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void use(jevons::TokenizerParts parts) {
  const jevons::BpeTokenizer tokenizer(std::move(parts));
  const auto encoder = tokenizer.encoder(jevons::Specials::kAreTokens);
  for (const char* text : {"abc ab  a\nb <s> \xe2\x96\x81 1", "\xff\xe2\x82 aab"}) {
    std::vector<std::int32_t> ids;
    encoder->encode(text, jevons::TextPart::kBeginning, ids);
    for (const std::int32_t id : ids) require(id >= 0 && id < tokenizer.vocab_size());
    tokenizer.decode(ids);
    require(tokenizer.cut(text) <= std::string_view(text).size());
  }
  for (const std::int32_t id : tokenizer.prefix()) require(id < tokenizer.vocab_size());
}

std::string field(int number, const std::string& text) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(text.size()) + text;
}

std::string piece(const std::string& text, float score, char type) {
  const auto* bytes = reinterpret_cast<const char*>(&score);
  return field(1, field(1, text) + "\x15" + std::string(bytes, sizeof(score)) + "\x18" + type);
}

// All bytes behind two special tokens.
std::string tekken() {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string vocab;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char text[] = {kLetters[byte >> 2], kLetters[(byte & 3) << 4], '=', '=', '\0'};
    vocab +=
        (byte > 0 ? "," : "") + (R"({"rank":)" + std::to_string(byte)) + R"(,"token_bytes":")" + text + "\"}";
  }
  return R"({"config":{"pattern":"a+|[^a]","default_vocab_size":258,"default_num_special_tokens":2},)"
         R"("special_tokens":[{"rank":1,"token_str":"</s>"}],"vocab":[)" +
         vocab + "]}";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    if (data[0] == 'J') use(jevons::parse_tokenizer_json(bytes, "fuzz.json"));
    if (data[0] == 'S') use(jevons::parse_sentencepiece(bytes, "fuzz.model"));
    if (data[0] == 'T') jevons::parse_tiktoken(bytes, "fuzz.tiktoken");
    if (data[0] == 'M') use(jevons::parse_tekken(bytes, "fuzz-tekken.json"));
  } catch (const jevons::Error& error) {
    require(error.code() == jevons::ExitCode::kData);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      R"(J{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"Ġ":3},"merges":["a b"],"unk_token":"b"},"added_tokens":[{"id":4,"content":"<s>","special":true,"lstrip":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[^\\s]+|\\s"},"behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":true}]},"decoder":{"type":"ByteLevel"}})",
      R"(J{"model":{"vocab":{"a":0,"▁":1,"▁a":2,"<0x0A>":3},"merges":[["▁","a"]],"byte_fallback":true},"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}})",
      "S" + piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("<0x41>", 0, 6) + piece("a", -1, 1) +
          piece("\xe2\x96\x81", -2, 1) +
          piece("\xe2\x96\x81"
                "a",
                -3, 1) +
          field(2, "\x18\x02\x98\x02\x01") + field(3, "\x18\x01\x20" + std::string(1, '\0')),
      "TYQ== 0\nYg== 1\nYWI= 2\n", "M" + tekken()};
}
