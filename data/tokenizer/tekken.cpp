#include "data/tokenizer/tekken.h"

#include <iterator>

#include "data/tokenizer/json_node.h"
#include "data/tokenizer/patterns.h"
#include "data/tokenizer/tiktoken.h"

namespace jevons {
namespace {

constexpr const char* kUsed = "default_vocab_size";

// Of files that do not list them; those behind have numbers.
constexpr const char* kSpecials[] = {"<unk>",
                                     "<s>",
                                     "</s>",
                                     "[INST]",
                                     "[/INST]",
                                     "[AVAILABLE_TOOLS]",
                                     "[/AVAILABLE_TOOLS]",
                                     "[TOOL_RESULTS]",
                                     "[/TOOL_RESULTS]",
                                     "[TOOL_CALLS]",
                                     "[IMG]",
                                     "<pad>",
                                     "[IMG_BREAK]",
                                     "[IMG_END]",
                                     "[PREFIX]",
                                     "[MIDDLE]",
                                     "[SUFFIX]",
                                     "[SYSTEM_PROMPT]",
                                     "[/SYSTEM_PROMPT]",
                                     "[TOOL_CONTENT]"};

// The special tokens by id.
std::vector<std::string> read_specials(const JsonNode& root, std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(fmt::format("<SPECIAL_{}>", i));
  const auto put = [&](const JsonNode& at, std::size_t id, const std::string& content) {
    if (id >= count) at.refused(fmt::format("special token {} of {}", id, count));
    names[id] = content;
  };
  const auto listed = root.find("special_tokens");
  for (std::size_t i = 0; !listed && i < std::size(kSpecials); ++i) put(root, i, kSpecials[i]);
  for (std::size_t i = 0; listed && i < listed->size(); ++i) {
    const JsonNode token = (*listed)[i];
    put(token, static_cast<std::size_t>(token.at("rank").id()), token.at("token_str").text());
  }
  return names;
}

// The tokens that are used: the first ones, by rank.
std::vector<std::string> read_tokens(const JsonNode& root, std::size_t count) {
  const JsonNode list = root.at("vocab");
  if (list.size() < count)
    list.refused(fmt::format("{} tokens, of which {} should be used", list.size(), count));
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < count; ++i) {
    const JsonNode token = list[i];
    if (static_cast<std::size_t>(token.at("rank").id()) != i) token.refused("tokens do not stand by rank");
    const JsonNode text = token.at("token_bytes");
    auto bytes = bytes_of_base64(text.text());
    if (!bytes || bytes->empty()) text.refused("is no token in base64");
    tokens.push_back(std::move(*bytes));
  }
  return tokens;
}

}  // namespace

bool looks_like_tekken(std::string_view json) {
  return json.find(fmt::format("\"{}\"", kUsed)) != std::string_view::npos;
}

TokenizerParts parse_tekken(std::string_view bytes, const std::string& name) {
  const nlohmann::json json = parse_json(bytes, name);
  const JsonNode root(json, name), config = root.at("config");
  const auto ids = static_cast<std::size_t>(config.at(kUsed).id()),
             specials = static_cast<std::size_t>(config.at("default_num_special_tokens").id());
  if (specials >= ids) config.refused(fmt::format("{} of {} tokens are special", specials, ids));
  TokenizerParts parts;
  parts.name = name;
  parts.pieces = read_specials(root, specials);
  for (std::size_t id = 0; id < specials; ++id) {
    parts.added.push_back(
        {.id = static_cast<std::int32_t>(id), .content = parts.pieces[id], .special = true});
    if (parts.pieces[id] == "</s>") parts.separator = static_cast<std::int32_t>(id);
  }
  put_ranks(read_tokens(root, ids - specials), parts);
  const JsonNode pattern = config.at("pattern");
  std::vector<Stage> stages;
  stages.emplace_back(SplitStage{Regex(pattern.text(), pattern.place())});
  parts.splitter = Splitter(std::move(stages));
  return parts;
}

}  // namespace jevons
