// Text to token ids and back. The byte tokenizer is the only one so far; a trained one (BPE) is another
// subclass and a name in make_tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string_view name() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  // The id that ends every document. encode() never produces it.
  virtual std::int32_t separator() const = 0;
  // Appends the ids of `text`. A long document may come in pieces, cut behind a newline wherever there is
  // one.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // The text of `ids`, each in [0, vocab_size). A separator stands for no text.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

// One id per byte, vocabulary 256. Id 0, the NUL byte, is the separator: text has no use for that byte, so no
// 257th id is needed. NUL bytes in the text itself are dropped; every other text comes back from
// decode(encode(text)) as it was.
class ByteTokenizer final : public Tokenizer {
 public:
  std::string_view name() const override { return "byte"; }
  std::int64_t vocab_size() const override { return 256; }
  std::int32_t separator() const override { return 0; }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
};

// By name: "byte". Throws Error(kUsage) for any other.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name);

}  // namespace jevons
