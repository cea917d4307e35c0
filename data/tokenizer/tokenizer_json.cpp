#include "data/tokenizer/tokenizer_json.h"

#include <algorithm>

#include "data/tokenizer/json_stages.h"
#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

// The model's vocabulary, as it is written: contents and ids.
TextIds read_vocabulary(const JsonNode& model) {
  const JsonNode vocab = model.at("vocab");
  if (!vocab.json().is_object())
    vocab.refused(fmt::format("expected an object of tokens and ids, found {}", vocab.json().type_name()));
  TextIds ids;
  ids.reserve(vocab.json().size());
  for (const auto& [content, id] : vocab.json().items()) ids.emplace(content, vocab.child(id, content).id());
  return ids;
}

std::pair<std::string, std::string> merge_sides(const JsonNode& merge) {
  if (merge.json().is_array()) {
    if (merge.size() != 2) merge.refused(fmt::format("expected two tokens, found {}", merge.size()));
    return {merge[0].text(), merge[1].text()};
  }
  const std::string& text = merge.text();
  const std::size_t blank = text.find(' ');
  if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos)
    merge.refused(fmt::format("expected two tokens with a blank between them, found \"{}\"", text));
  return {text.substr(0, blank), text.substr(blank + 1)};
}

std::vector<Merge> read_merges(const JsonNode& model, const TextIds& ids) {
  const JsonNode list = model.at("merges");
  std::vector<Merge> merges;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode merge = list[i];
    if (merge.json().is_string() && merge.text().starts_with("#version")) continue;
    const auto id = [&](const std::string& content) {
      const auto found = ids.find(content);
      if (found == ids.end()) merge.refused(fmt::format("\"{}\" is not in the vocabulary", content));
      return found->second;
    };
    const auto [left, right] = merge_sides(merge);
    merges.push_back({id(left), id(right), id(left + right), static_cast<std::int32_t>(merges.size())});
  }
  return merges;
}

// Values that change what a model does, and that nobody here does.
void check_model(const JsonNode& model) {
  const auto type = model.find("type");
  const std::string name = type ? type->text() : "BPE";
  if (name != "BPE") model.refused(fmt::format("the model {} is not supported: only BPE is", name));
  if (const auto dropout = model.find("dropout")) {
    if (!dropout->json().is_number() || dropout->json().get<double>() != 0)
      dropout->refused("dropout is not supported");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto found = model.find(key);
    if (found && !found->text().empty())
      found->refused(fmt::format("\"{}\" is not supported", found->text()));
  }
}

std::vector<std::int32_t> byte_tokens_of(const TextIds& ids) {
  std::vector<std::int32_t> tokens;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(fmt::format("<0x{:02X}>", byte));
    tokens.push_back(found == ids.end() ? -1 : found->second);
  }
  return tokens;
}

BpeParts read_model(const JsonNode& model, const TextIds& ids, Symbols symbols) {
  BpeParts parts;
  parts.symbols = symbols;
  parts.merges = read_merges(model, ids);
  parts.whole_pieces_first = model.flag_or("ignore_merges", false);
  parts.fuse_unknown = model.flag_or("fuse_unk", false);
  if (const auto unknown = model.find("unk_token")) {
    const auto found = ids.find(unknown->text());
    if (found == ids.end()) unknown->refused(fmt::format("\"{}\" is not in the vocabulary", unknown->text()));
    parts.unknown = found->second;
  }
  if (model.flag_or("byte_fallback", false)) {
    if (symbols == Symbols::kBytes) model.refused("byte_fallback with ByteLevel is not supported");
    parts.byte_tokens = byte_tokens_of(ids);
  }
  for (const auto& [content, id] : ids) {
    if (symbols == Symbols::kCharacters) {
      parts.vocabulary.emplace(content, id);
    } else if (auto bytes = bytes_of_alphabet(content)) {
      parts.vocabulary.emplace(std::move(*bytes), id);
    }
  }
  return parts;
}

std::vector<AddedToken> read_added_tokens(const JsonNode& root) {
  std::vector<AddedToken> tokens;
  const auto list = root.find("added_tokens");
  for (std::size_t i = 0; list && i < list->size(); ++i) {
    const JsonNode token = (*list)[i];
    const bool special = token.flag_or("special", false);
    tokens.push_back({.id = token.at("id").id(),
                      .content = token.at("content").text(),
                      .special = special,
                      .normalized = token.flag_or("normalized", !special),
                      .single_word = token.flag_or("single_word", false),
                      .lstrip = token.flag_or("lstrip", false),
                      .rstrip = token.flag_or("rstrip", false)});
  }
  return tokens;
}

// Contents by id; a place that no token has is empty.
std::vector<std::string> contents_by_id(const JsonNode& root, const TextIds& ids,
                                        const std::vector<AddedToken>& added) {
  std::int32_t last = -1;
  for (const auto& [content, id] : ids) last = std::max(last, id);
  for (const AddedToken& token : added) last = std::max(last, token.id);
  std::vector<std::string> contents(static_cast<std::size_t>(last + 1));
  const auto put = [&](const std::string& content, std::int32_t id) {
    std::string& place = contents[static_cast<std::size_t>(id)];
    if (!place.empty() && place != content)
      root.refused(fmt::format("id {} is both \"{}\" and \"{}\"", id, place, content));
    place = content;
  };
  for (const auto& [content, id] : ids) put(content, id);
  for (const AddedToken& token : added) {
    const auto own = ids.find(token.content);
    if (own != ids.end() && own->second != token.id)
      root.refused(fmt::format("\"{}\" is {} in the vocabulary and {} among the added tokens", token.content,
                               own->second, token.id));
    put(token.content, token.id);
  }
  return contents;
}

// What a template puts before a text.
std::vector<std::int32_t> prefix_of(const JsonNode& node) {
  const std::string type = node.at("type").text();
  std::vector<std::int32_t> prefix;
  if (type == "Sequence") {
    const JsonNode list = node.at("processors");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::vector<std::int32_t> more = prefix_of(list[i]);
      prefix.insert(prefix.begin(), more.begin(), more.end());
    }
  } else if (type == "TemplateProcessing") {
    const JsonNode list = node.at("single");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto special = list[i].find("SpecialToken");
      if (!special) break;
      const JsonNode ids = node.at("special_tokens").at(special->at("id").text()).at("ids");
      for (std::size_t k = 0; k < ids.size(); ++k) prefix.push_back(ids[k].id());
    }
  } else if (type != "ByteLevel") {
    node.refused(fmt::format("the post-processor {} is not supported", type));
  }
  return prefix;
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view bytes, const std::string& name) {
  const nlohmann::json json = parse_json(bytes, name);
  const JsonNode root(json, name);
  TokenizerParts parts;
  parts.name = name;
  parts.normalizer = read_normalizer(root);
  PreTokenizer pre_tokenizer = read_pre_tokenizer(root);
  const Decoding decoding = read_decoder(root, pre_tokenizer);
  const JsonNode model = root.at("model");
  check_model(model);
  const TextIds ids = read_vocabulary(model);
  parts.model = read_model(model, ids, pre_tokenizer.byte_level ? Symbols::kBytes : Symbols::kCharacters);
  parts.added = read_added_tokens(root);
  for (const std::string& content : contents_by_id(root, ids, parts.added))
    parts.pieces.push_back(decoding.bytes_of(content));
  Normalizer::Scratch scratch;
  for (AddedToken& token : parts.added) {
    if (!token.normalized) continue;
    token.content = parts.normalizer.apply(token.content, TextPart::kBeginning, scratch);
    parts.pieces[static_cast<std::size_t>(token.id)] = decoding.bytes_of(token.content);
  }
  parts.strip_blanks = decoding.strip_blanks;
  if (const auto post = root.find("post_processor")) parts.prefix = prefix_of(*post);
  for (const std::int32_t id : parts.prefix) {
    if (static_cast<std::size_t>(id) >= parts.pieces.size())
      root.refused(fmt::format("post_processor: id {} in a vocabulary of {}", id, parts.pieces.size()));
  }
  if (pre_tokenizer.stages.empty()) pre_tokenizer.stages = stages_before_blanks(parts.model);
  parts.splitter = Splitter(std::move(pre_tokenizer.stages));
  return parts;
}

}  // namespace jevons
