#include "data/tokenizer/bpe_tokenizer.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "data/tokenizer/patterns.h"
#include "data/tokenizer/piece_cache.h"
#include "data/tokenizer/unicode.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

AddedTokens tokens_with(std::vector<AddedToken> tokens, bool normalized) {
  std::erase_if(tokens, [&](const AddedToken& token) { return token.normalized != normalized; });
  return AddedTokens(std::move(tokens));
}

// Everything that decides ids, in one order.
class Digest {
 public:
  Digest() { XXH3_64bits_reset(state_.get()); }
  void add(std::string_view text) {
    add(static_cast<std::int64_t>(text.size()));
    XXH3_64bits_update(state_.get(), text.data(), text.size());
  }
  void add(std::int64_t value) { XXH3_64bits_update(state_.get(), &value, sizeof(value)); }
  std::string hex() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_{XXH3_createState(), &XXH3_freeState};
};

void add_normalizer(const Normalizer& normalizer, Digest& digest) {
  for (const NormalizerStep& step : normalizer.steps()) {
    digest.add(static_cast<std::int64_t>(step.index()));
    if (const auto* form = std::get_if<NormalForm>(&step)) digest.add(static_cast<std::int64_t>(*form));
    if (const auto* prepend = std::get_if<PrependStep>(&step)) digest.add(prepend->text);
    if (const auto* replace = std::get_if<ReplaceStep>(&step)) {
      const auto* text = std::get_if<std::string>(&replace->pattern);
      digest.add(text != nullptr ? *text : std::get<Regex>(replace->pattern).pattern());
      digest.add(replace->content);
    }
  }
}

void add_stages(const Splitter& splitter, Digest& digest) {
  for (const Stage& stage : splitter.stages()) {
    digest.add(static_cast<std::int64_t>(stage.index()));
    if (const auto* split = std::get_if<SplitStage>(&stage)) {
      digest.add(split->regex.pattern());
      digest.add(static_cast<std::int64_t>(split->behavior) * 2 + static_cast<std::int64_t>(split->matches));
    }
    if (const auto* space = std::get_if<MetaspaceStage>(&stage)) {
      digest.add(space->replacement);
      digest.add(static_cast<std::int64_t>(space->prepend) * 2 + (space->split ? 1 : 0));
    }
  }
}

std::string digest_of(const TokenizerParts& parts) {
  Digest digest;
  for (const std::string& piece : parts.pieces) digest.add(piece);
  std::vector<std::pair<std::int32_t, std::string_view>> known;
  for (const auto& [text, id] : parts.model.vocabulary) known.emplace_back(id, text);
  std::sort(known.begin(), known.end());
  for (const auto& [id, text] : known) digest.add(id), digest.add(text);
  std::vector<Merge> merges = parts.model.merges;
  const auto key = [](const Merge& m) { return std::tuple(m.rank, m.left, m.right, m.result); };
  std::sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) { return key(a) < key(b); });
  for (const Merge& m : merges) digest.add(m.left), digest.add(m.right), digest.add(m.result);
  for (const AddedToken& t : parts.added) {
    digest.add(t.id), digest.add(t.content);
    digest.add(t.special + 2 * t.normalized + 4 * t.single_word + 8 * t.lstrip + 16 * t.rstrip);
  }
  add_normalizer(parts.normalizer, digest);
  add_stages(parts.splitter, digest);
  digest.add(parts.model.unknown.value_or(-1));
  digest.add(parts.model.whole_pieces_first + 2 * parts.model.fuse_unknown +
             4 * static_cast<int>(parts.model.symbols));
  for (const std::int32_t id : parts.model.byte_tokens) digest.add(id);
  return digest.hex();
}

// Whether the bytes before `end` end in a letter; they may be anything.
bool letter_before(std::string_view text, std::size_t end) {
  const std::string_view tail =
      text.substr(end - std::min<std::size_t>(end, 4), std::min<std::size_t>(end, 4));
  for (std::size_t size = 1; size <= tail.size(); ++size) {
    const std::string_view last = tail.substr(tail.size() - size);
    if ((static_cast<unsigned char>(last[0]) & 0xc0) == 0x80) continue;
    std::size_t at = 0;
    return is_utf8(last) && is_letter(next_character(last, at));
  }
  return false;
}

bool has_letter_before_space(const std::string& text) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if ((text[i] == ' ' || text[i] == '\n') && letter_before(text, i)) return true;
  }
  return false;
}

// Whether a cut between a letter and white space behind it may go through this token, or through what it
// takes.
bool reaches_over_words(const AddedToken& token) {
  return has_letter_before_space(token.content) ||
         (token.rstrip && letter_before(token.content, token.content.size()));
}

}  // namespace

TokenizerParts parts_of_bytes() {
  TokenizerParts parts;
  parts.name = kByteTokenizer;
  for (int byte = 0; byte < 256; ++byte) {
    parts.pieces.emplace_back(1, static_cast<char>(byte));
    parts.model.vocabulary.emplace(parts.pieces.back(), byte);
  }
  return parts;
}

bool joins_over_marks(const TextIds& vocabulary) {
  if (!vocabulary.contains(kBlankMark)) return true;
  const auto joins = [](const auto& entry) {
    const std::string_view text = entry.first;
    for (std::size_t at = 0; (at = text.find(kBlankMark, at + 1)) != std::string_view::npos;) {
      if (!text.substr(0, at).ends_with(kBlankMark)) return true;
    }
    return false;
  };
  return std::any_of(vocabulary.begin(), vocabulary.end(), joins);
}

std::vector<Stage> stages_before_blanks(const BpeParts& model) {
  std::vector<Stage> stages;
  if (model.symbols == Symbols::kCharacters && !joins_over_marks(model.vocabulary) &&
      !model.whole_pieces_first)
    stages.emplace_back(SplitStage{Regex("\u2581*[^\u2581]+|\u2581+", "words")});
  return stages;
}

class BpeEncoder final : public Encoder {
 public:
  BpeEncoder(const BpeTokenizer& tokenizer, Specials specials) : tokenizer_(tokenizer), specials_(specials) {}

  void encode(std::string_view text, TextPart part, std::vector<std::int32_t>& ids) override {
    text = valid_utf8(text, fixed_);
    ids_ = &ids;
    place_ = part == TextPart::kBeginning ? TextPlace::kFirst : TextPlace::kLater;
    tokenizer_.raw_added_.split(text, specials_, [&](std::string_view between, const AddedToken* token) {
      const TextPart own = std::exchange(part, TextPart::kBeginning);
      if (token != nullptr) return put(*token);
      encode_normalized(tokenizer_.normalizer_.apply(between, own, normalizer_scratch_));
    });
  }

 private:
  void put(const AddedToken& token) {
    ids_->push_back(token.id);
    place_ = TextPlace::kLater;
  }

  void encode_normalized(std::string_view text) {
    tokenizer_.normalized_added_.split(
        text, specials_, [&](std::string_view between, const AddedToken* token) {
          if (token != nullptr) return put(*token);
          tokenizer_.splitter_.split(between, place_, splitter_scratch_, sink_);
          place_ = TextPlace::kLater;
        });
  }

  void encode_piece(std::string_view piece) {
    if (!PieceCache::takes(piece)) return tokenizer_.model_.encode(piece, model_scratch_, *ids_);
    const std::uint64_t hash = PieceCache::hash(piece);
    const std::span<const std::int32_t> known = cache_.find(piece, hash);
    if (!known.empty()) {
      ids_->insert(ids_->end(), known.begin(), known.end());
      return;
    }
    const std::size_t before = ids_->size();
    tokenizer_.model_.encode(piece, model_scratch_, *ids_);
    cache_.put(piece, hash, std::span(*ids_).subspan(before));
  }

  const BpeTokenizer& tokenizer_;
  Specials specials_;
  std::vector<std::int32_t>* ids_ = nullptr;
  TextPlace place_ = TextPlace::kFirst;
  std::string fixed_;
  Normalizer::Scratch normalizer_scratch_;
  Splitter::Scratch splitter_scratch_;
  Splitter::Sink sink_ = [this](std::string_view piece) { encode_piece(piece); };
  BpeModel::Scratch model_scratch_;
  PieceCache cache_;
};

BpeTokenizer::BpeTokenizer(TokenizerParts parts)
    : name_(std::move(parts.name)),
      hash_(digest_of(parts)),
      strip_blanks_(parts.strip_blanks),
      separator_(parts.separator),
      prefix_(std::move(parts.prefix)),
      cuts_(cuts_of(parts)) {
  raw_added_ = tokens_with(parts.added, false);
  normalized_added_ = tokens_with(std::move(parts.added), true);
  normalizer_ = std::move(parts.normalizer);
  splitter_ = std::move(parts.splitter);
  model_ = BpeModel(std::move(parts.model));
  pieces_ = std::move(parts.pieces);
}

BpeTokenizer::~BpeTokenizer() = default;

BpeTokenizer::Cuts BpeTokenizer::cuts_of(const TokenizerParts& parts) const {
  if (std::any_of(parts.added.begin(), parts.added.end(), reaches_over_words)) return Cuts::kNowhere;
  for (const NormalizerStep& step : parts.normalizer.steps()) {
    const auto* replace = std::get_if<ReplaceStep>(&step);
    if (replace == nullptr) continue;
    const auto* text = std::get_if<std::string>(&replace->pattern);
    if (text == nullptr || *text != " ") return Cuts::kNowhere;
  }
  if (parts.model.symbols == Symbols::kCharacters) {
    // Behind an added token a text begins anew, which the rest of a text does not.
    const auto ends_in_letter = [](const AddedToken& token) {
      return letter_before(token.content, token.content.size());
    };
    if (std::any_of(parts.added.begin(), parts.added.end(), ends_in_letter)) return Cuts::kNowhere;
    return joins_over_marks(parts.model.vocabulary) ? Cuts::kNowhere : Cuts::kLetterBlank;
  }
  bool blanks = false, words = false;
  for (const Stage& stage : parts.splitter.stages()) {
    const auto* split = std::get_if<SplitStage>(&stage);
    blanks = blanks || split == nullptr;
    if (split == nullptr) continue;
    const WordEnds ends = word_ends(*split);
    if (ends == WordEnds::kUnknown) return Cuts::kNowhere;
    words = words || ends == WordEnds::kBetweenThem;
  }
  if (!words) return Cuts::kNowhere;
  return blanks ? Cuts::kLetterBlank : Cuts::kLetterSpace;
}

std::unique_ptr<Encoder> BpeTokenizer::encoder(Specials specials) const {
  return std::make_unique<BpeEncoder>(*this, specials);
}

std::string_view BpeTokenizer::bytes_of(std::int32_t id) const {
  ENSURE(id >= 0 && id < vocab_size(), "token id {} in a vocabulary of {}", id, vocab_size());
  return pieces_[static_cast<std::size_t>(id)];
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += bytes_of(id);
  const std::size_t blanks = std::min(text.find_first_not_of(' '), text.size());
  text.erase(0, std::min(blanks, strip_blanks_));
  return text;
}

std::size_t BpeTokenizer::cut(std::string_view text) const {
  if (cuts_ == Cuts::kNowhere) return 0;
  for (std::size_t at = text.size(); at-- > 1;) {
    if (text[at] != ' ' && (text[at] != '\n' || cuts_ != Cuts::kLetterSpace)) continue;
    if (letter_before(text, at)) return at;
  }
  return 0;
}

}  // namespace jevons
