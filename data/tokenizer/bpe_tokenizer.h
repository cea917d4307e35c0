// A tokenizer of parts: added tokens, normalizer, splitter, byte-pair encoding. Every file format is read
// into these.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/splitter.h"

namespace jevons {

struct TokenizerParts {
  std::string name;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  Splitter splitter;
  BpeParts model;
  std::vector<std::string> pieces;  // the bytes that each id stands for; as many as there are ids
  std::size_t strip_blanks = 0;     // that many at the beginning of a text belong to no text
  std::optional<std::int32_t> separator;
  std::vector<std::int32_t> prefix;
};

// Each byte is its own id, and nothing is joined.
TokenizerParts parts_of_bytes();

inline constexpr std::string_view kBlankMark =
    "\xe2\x96\x81";  // U+2581, a blank in vocabularies of characters

// Whether a text of the vocabulary has the mark behind another character. If none has, nothing is ever joined
// over a blank, and text can be split before them.
bool joins_over_marks(const TextIds& vocabulary);
// Words as pieces, for a model of characters that has no stages, where that changes nothing: then they are
// found again in the cache of pieces.
std::vector<Stage> stages_before_blanks(const BpeParts& model);

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerParts parts);
  ~BpeTokenizer() override;

  const std::string& name() const override { return name_; }
  std::string hash() const override { return hash_; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::optional<std::int32_t> separator() const override { return separator_; }
  std::vector<std::int32_t> prefix() const override { return prefix_; }
  std::unique_ptr<Encoder> encoder(Specials specials) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string_view bytes_of(std::int32_t id) const override;
  std::size_t cut(std::string_view text) const override;

 private:
  friend class BpeEncoder;
  // Between which characters a text may be cut.
  enum class Cuts { kNowhere, kLetterBlank, kLetterSpace };
  Cuts cuts_of(const TokenizerParts& parts) const;

  std::string name_, hash_;
  AddedTokens raw_added_, normalized_added_;
  Normalizer normalizer_;
  Splitter splitter_;
  BpeModel model_;
  std::vector<std::string> pieces_;
  std::size_t strip_blanks_;
  std::optional<std::int32_t> separator_;
  std::vector<std::int32_t> prefix_;
  Cuts cuts_;
};

}  // namespace jevons
