#include "data/tokenizer/sentencepiece.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "data/tokenizer/unicode.h"
#include "data/tokenizer/wire_reader.h"

namespace jevons {
namespace {

// The field numbers are those of sentencepiece_model.proto.
enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct Model {
  std::vector<Piece> pieces;
  std::uint64_t model_type = 1, byte_fallback = 0, suffix = 0, eos = 2;
  std::string normalizer, character_map;
  std::uint64_t dummy_prefix = 1, remove_whitespace = 1, escape = 1;
};

constexpr std::size_t kMostPieces = std::size_t{1} << 21;

Piece read_piece(WireReader message, const std::string& name, std::size_t id) {
  Piece piece;
  while (message.next()) {
    if (message.number() == 1) piece.text = message.text();
    if (message.number() == 2) piece.score = message.real();
    if (message.number() == 3)
      piece.type = static_cast<PieceType>(std::min<std::uint64_t>(message.integer(), 99));
  }
  if (piece.text.empty() || !is_utf8(piece.text)) fail(ExitCode::kData, "{}: piece {} is no text", name, id);
  if (std::isnan(piece.score))
    fail(ExitCode::kData, "{}: piece {} \"{}\" has a score of NaN", name, id, piece.text);
  return piece;
}

Model read_model(std::string_view bytes, const std::string& name) {
  Model model;
  for (WireReader file(bytes, name); file.next();) {
    if (file.number() == 1) {
      model.pieces.push_back(read_piece(file.message(), name, model.pieces.size()));
      if (model.pieces.size() > kMostPieces)
        fail(ExitCode::kData, "{}: more than {} pieces", name, kMostPieces);
    } else if (file.number() == 2) {
      for (WireReader trainer = file.message(); trainer.next();) {
        if (trainer.number() == 3) model.model_type = trainer.integer();
        if (trainer.number() == 24) model.suffix = trainer.integer();
        if (trainer.number() == 35) model.byte_fallback = trainer.integer();
        if (trainer.number() == 42) model.eos = trainer.integer();
      }
    } else if (file.number() == 3) {
      for (WireReader normalizer = file.message(); normalizer.next();) {
        if (normalizer.number() == 1) model.normalizer = normalizer.text();
        if (normalizer.number() == 2) model.character_map = normalizer.text();
        if (normalizer.number() == 3) model.dummy_prefix = normalizer.integer();
        if (normalizer.number() == 4) model.remove_whitespace = normalizer.integer();
        if (normalizer.number() == 5) model.escape = normalizer.integer();
      }
    }
  }
  return model;
}

void check_supported(const Model& model, const std::string& name) {
  const auto refuse = [&](const std::string& what) {
    fail(ExitCode::kData, "{}: {} is not supported", name, what);
  };
  constexpr const char* kTypes[] = {"", "Unigram", "BPE", "word", "char"};
  if (model.pieces.empty())
    fail(ExitCode::kData, "{}: there are no pieces: this is no SentencePiece model", name);
  if (model.model_type != 2)
    refuse(fmt::format("the model {} (only BPE is)", model.model_type < std::size(kTypes)
                                                         ? kTypes[model.model_type]
                                                         : "of an unknown type"));
  if (!model.character_map.empty()) refuse(fmt::format("the normalizer \"{}\"", model.normalizer));
  if (model.remove_whitespace != 0) refuse("remove_extra_whitespaces");
  if (model.escape == 0) refuse("escape_whitespaces: false");
  if (model.suffix != 0) refuse("treat_whitespace_as_suffix");
  for (const Piece& piece : model.pieces) {
    if (piece.type == PieceType::kUnused)
      refuse(fmt::format("\"{}\", a piece that is not used,", piece.text));
    if (piece.type > PieceType::kByte || piece.type < PieceType::kNormal)
      refuse(fmt::format("the type of the piece \"{}\"", piece.text));
  }
}

// Every way to put a piece together of two; equal scores have equal ranks.
std::vector<Merge> merges_of(const Model& model, const TextIds& ids, const std::string& name) {
  std::map<float, std::int32_t, std::greater<>> ranks;
  for (const Piece& piece : model.pieces) ranks[piece.score] = 0;
  std::int32_t next = 0;
  for (auto& [score, rank] : ranks) rank = next++;
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != PieceType::kNormal) continue;
    const std::string_view text = piece.text;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      next_character(text, at);
      if (!ids.contains(text.substr(begin, at - begin)))
        fail(ExitCode::kData,
             "{}: piece {} \"{}\" has a character that is no piece itself, which is not supported", name, id,
             piece.text);
      if (begin == 0) continue;
      const auto left = ids.find(text.substr(0, begin)), right = ids.find(text.substr(begin));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({left->second, right->second, static_cast<std::int32_t>(id), ranks[piece.score]});
    }
  }
  return merges;
}

std::string bytes_of(const Piece& piece) {
  if (piece.type == PieceType::kControl) return "";
  if (piece.type == PieceType::kUnknown) return " \u2047 ";
  if (piece.type == PieceType::kByte)
    return std::string(1, static_cast<char>(std::stoi(piece.text.substr(3, 2), nullptr, 16)));
  std::string text;
  std::string_view left = piece.text;
  for (std::size_t at; (at = left.find(kBlankMark)) != std::string_view::npos;) {
    text.append(left.substr(0, at)).append(" ");
    left.remove_prefix(at + kBlankMark.size());
  }
  return text.append(left);
}

bool is_byte_piece(const std::string& text) {
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' &&
         std::isxdigit(static_cast<unsigned char>(text[3])) &&
         std::isxdigit(static_cast<unsigned char>(text[4]));
}

void add_pieces(const Model& model, const std::string& name, TokenizerParts& parts) {
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const auto id = static_cast<std::int32_t>(i);
    if (piece.type == PieceType::kNormal && !parts.model.vocabulary.emplace(piece.text, id).second)
      fail(ExitCode::kData, "{}: the piece \"{}\" is there twice", name, piece.text);
    if (piece.type == PieceType::kUnknown) parts.model.unknown = id;
    if (piece.type == PieceType::kControl)
      parts.added.push_back({.id = id, .content = piece.text, .special = true});
    // Found in the normalized text, in which they are written.
    if (piece.type == PieceType::kUserDefined)
      parts.added.push_back({.id = id, .content = piece.text, .normalized = true});
    if (piece.type == PieceType::kByte) {
      if (!is_byte_piece(piece.text))
        fail(ExitCode::kData, "{}: piece {} \"{}\" is no byte", name, id, piece.text);
      parts.model.byte_tokens.resize(256, -1);
      parts.model.byte_tokens[static_cast<std::size_t>(std::stoi(piece.text.substr(3, 2), nullptr, 16))] = id;
    }
    parts.pieces.push_back(bytes_of(piece));
  }
}

}  // namespace

TokenizerParts parse_sentencepiece(std::string_view bytes, const std::string& name) {
  const Model model = read_model(bytes, name);
  check_supported(model, name);
  TokenizerParts parts;
  parts.name = name;
  parts.model.symbols = Symbols::kCharacters;
  parts.model.fuse_unknown = true;
  add_pieces(model, name, parts);
  if (model.byte_fallback == 0) parts.model.byte_tokens.clear();
  parts.model.merges = merges_of(model, parts.model.vocabulary, name);
  std::vector<NormalizerStep> steps;
  if (model.dummy_prefix != 0) steps.emplace_back(PrependStep{std::string(kBlankMark)});
  steps.emplace_back(ReplaceStep{std::string(" "), std::string(kBlankMark)});
  parts.normalizer = Normalizer(std::move(steps));
  parts.strip_blanks = model.dummy_prefix != 0 ? 1 : 0;
  parts.splitter = Splitter(stages_before_blanks(parts.model));
  if (model.eos < model.pieces.size() && model.pieces[model.eos].type == PieceType::kControl)
    parts.separator = static_cast<std::int32_t>(model.eos);
  return parts;
}

}  // namespace jevons
