#include "data/tokenizer/write_json.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <variant>

#include "data/tokenizer/unicode.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

std::string content_of(std::string_view bytes) {
  std::string content;
  for (const char byte : bytes)
    append_character(character_of_byte(static_cast<unsigned char>(byte)), content);
  return content;
}

Json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
}

Json pre_tokenizer_json(const Splitter& splitter) {
  Json stages = Json::array();
  for (const Stage& stage : splitter.stages()) {
    const auto* split = std::get_if<SplitStage>(&stage);
    ENSURE(split != nullptr && split->behavior == SplitBehavior::kIsolated &&
               split->matches == Matches::kAsFound,
           "a stage that is no isolated expression");
    stages.push_back({{"type", "Split"},
                      {"pattern", {{"Regex", split->regex.pattern()}}},
                      {"behavior", "Isolated"},
                      {"invert", false}});
  }
  stages.push_back(byte_level());
  return {{"type", "Sequence"}, {"pretokenizers", stages}};
}

Json added_json(const std::vector<AddedToken>& tokens) {
  Json added = Json::array();
  for (const AddedToken& token : tokens) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", token.single_word},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  return added;
}

// Every id that has a token, added ones too: their ids are those of the vocabulary then, wherever they lie.
Json vocabulary_json(const TokenizerParts& parts) {
  std::map<std::int32_t, std::string> added;
  for (const AddedToken& token : parts.added) added[token.id] = token.content;
  Json vocabulary = Json::object();
  for (std::size_t id = 0; id < parts.pieces.size(); ++id) {
    const auto found = added.find(static_cast<std::int32_t>(id));
    if (found == added.end() && parts.pieces[id].empty()) continue;
    vocabulary[found != added.end() ? found->second : content_of(parts.pieces[id])] = id;
  }
  return vocabulary;
}

Json merges_json(const TokenizerParts& parts) {
  std::vector<Merge> merges = parts.model.merges;
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  });
  const auto content = [&](std::int32_t id) {
    return content_of(parts.pieces[static_cast<std::size_t>(id)]);
  };
  Json list = Json::array();
  for (const Merge& merge : merges) list.push_back({content(merge.left), content(merge.right)});
  return list;
}

// The prefix before every text.
Json post_processor_json(const TokenizerParts& parts) {
  if (parts.prefix.empty()) return nullptr;
  const auto text = [](const char* name) { return Json{{"Sequence", {{"id", name}, {"type_id", 0}}}}; };
  Json single = Json::array(), specials = Json::object();
  for (const std::int32_t id : parts.prefix) {
    const std::string& content = parts.pieces[static_cast<std::size_t>(id)];
    single.push_back({{"SpecialToken", {{"id", content}, {"type_id", 0}}}});
    specials[content] = {{"id", content}, {"ids", {id}}, {"tokens", {content}}};
  }
  single.push_back(text("A"));
  Json pair = single;
  pair.push_back(text("B"));
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

}  // namespace

std::string format_tokenizer_json(const TokenizerParts& parts) {
  ENSURE(parts.model.symbols == Symbols::kBytes && parts.normalizer.empty(),
         "{}: more than bytes, stages and merges", parts.name);
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", parts.model.whole_pieces_first},
                      {"vocab", vocabulary_json(parts)},
                      {"merges", merges_json(parts)}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_json(parts.added)},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pre_tokenizer_json(parts.splitter)},
                     {"post_processor", post_processor_json(parts)},
                     {"decoder", byte_level()},
                     {"model", model}};
  return json.dump(1) + "\n";
}

}  // namespace jevons
