// Text to token ids and back: bytes, or what tokenizer.json, SentencePiece and tiktoken files describe
// (data/tokenizer). A Tokenizer is shared by threads and does not change; an Encoder belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

// What the special tokens of a vocabulary, such as "<|endoftext|>", are where a text holds their names: plain
// text, as in training data and in what users write, or themselves.
enum class Specials { kAreText, kAreTokens };

// Whether a text begins here, or is the rest of one that was cut (Tokenizer::cut).
enum class TextPart { kBeginning, kRest };

class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends the ids of `text`. Parts of bytes that are no UTF-8 count as U+FFFD.
  virtual void encode(std::string_view text, TextPart part, std::vector<std::int32_t>& ids) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // "byte", or the path that it was read from.
  virtual const std::string& name() const = 0;
  // 16 hex digits over all that decides which ids a text has. Equal for equal content in other layouts.
  virtual std::string hash() const = 0;
  // Every id is below it.
  virtual std::int64_t vocab_size() const = 0;
  // The id that ends every document, nothing where the files name none. encode() makes it of no text, unless
  // specials are tokens.
  virtual std::optional<std::int32_t> separator() const = 0;
  // Ids that belong before the beginning of a text by the files' own rule; training data does without.
  virtual std::vector<std::int32_t> prefix() const { return {}; }

  virtual std::unique_ptr<Encoder> encoder(Specials specials) const = 0;
  // The bytes of a text with these ids, each in [0, vocab_size). A token may end inside a character.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  // The bytes of one token behind others: those of a text's tokens one after the other are its bytes but for
  // a blank that the vocabulary puts before the first word.
  virtual std::string_view bytes_of(std::int32_t id) const = 0;

  // The last place in `text` where it may be cut in two, with the same ids as long as the second part is
  // encoded as TextPart::kRest, whatever follows behind `text`; 0 if there is none.
  virtual std::size_t cut(std::string_view text) const = 0;

  // The ids of one whole text; specials are text.
  std::vector<std::int32_t> encode(std::string_view text) const;
};

// One id per byte, vocabulary 256. Id 0, the NUL byte, is the separator: text has no use for that byte, so no
// 257th id is needed. NUL bytes in the text itself are dropped; every other text comes back from
// decode(encode(text)) as it was, UTF-8 or not.
class ByteTokenizer final : public Tokenizer {
 public:
  const std::string& name() const override;
  std::string hash() const override;
  std::int64_t vocab_size() const override { return 256; }
  std::optional<std::int32_t> separator() const override { return 0; }
  std::unique_ptr<Encoder> encoder(Specials specials) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string_view bytes_of(std::int32_t id) const override;
  std::size_t cut(std::string_view text) const override { return text.size(); }
};

inline constexpr const char* kByteTokenizer = "byte";

// By "byte", or from a path: a tokenizer.json, a SentencePiece model, a file of tiktoken ranks, Mistral's
// tekken.json, or a Hugging Face folder with one of them. What begins and ends a text is read from the files
// beside it. Throws Error(kData) naming file and what is wrong or not supported, Error(kUsage) if there is
// nothing.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name);

}  // namespace jevons
