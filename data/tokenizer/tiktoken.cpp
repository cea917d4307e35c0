#include "data/tokenizer/tiktoken.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "data/tokenizer/patterns.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

// What a number of ranks is known to go with.
struct Family {
  std::size_t ranks;
  const char* pattern;                // a name of patterns_named
  std::size_t ids;                    // with the special tokens
  std::vector<std::string> specials;  // the first ones, from `first_special` on
  std::size_t first_special;
  const char* separator;
};

std::vector<std::string> llama3_specials() {
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|finetune_right_pad_id|>",
                                    "<|step_id|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eom_id|>",
                                    "<|eot_id|>",
                                    "<|python_tag|>",
                                    "<|image|>"};
  for (int i = 2; names.size() < 256; ++i) names.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  return names;
}

std::vector<std::string> qwen_specials() {
  std::vector<std::string> names = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int i = 0; i < 205; ++i) names.push_back(fmt::format("<|extra_{}|>", i));
  return names;
}

std::vector<Family> families() {
  return {{50256, "gpt2", 50257, {"<|endoftext|>"}, 50256, "<|endoftext|>"},
          {100256,
           "llama3",
           100277,
           {"<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"},
           100257,
           "<|endoftext|>"},
          {128000, "llama3", 128256, llama3_specials(), 128000, "<|end_of_text|>"},
          {151643, "qwen2", 151851, qwen_specials(), 151643, "<|endoftext|>"},
          {199998, "o200k", 200019, {"<|endoftext|>"}, 199999, "<|endoftext|>"},
          {200000, "o200k", 202048, {"<|begin_of_text|>", "<|end_of_text|>"}, 200000, "<|end_of_text|>"}};
}

Family family_of(std::size_t ranks, const std::string& name) {
  std::string known;
  for (Family& family : families()) {
    if (family.ranks == ranks) return std::move(family);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.ranks);
  }
  fail(ExitCode::kData,
       "{}: {} ranks: how text is split for them is not in the file, and is known for {} ranks only; a "
       "tokenizer.json says it",
       name, ranks, known);
}

}  // namespace

std::optional<std::string> bytes_of_base64(std::string_view text) {
  static const std::array<std::int8_t, 256> kValues = [] {
    std::array<std::int8_t, 256> values{};
    values.fill(-1);
    constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < kLetters.size(); ++i)
      values[static_cast<unsigned char>(kLetters[i])] = static_cast<std::int8_t>(i);
    return values;
  }();
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8) & 0xff));
  }
  return bytes;
}

namespace {

struct Rank {
  std::string token;
  std::int32_t rank;
};

std::optional<Rank> parse_line(std::string_view line) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos || blank == 0) return std::nullopt;
  auto token = bytes_of_base64(line.substr(0, blank));
  std::int32_t rank = 0;
  const char* end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + blank + 1, end, rank);
  if (!token || token->empty() || error != std::errc() || stop != end || rank < 0) return std::nullopt;
  return Rank{std::move(*token), rank};
}

std::string_view next_line(std::string_view& text) {
  const std::size_t size = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, size);
  text.remove_prefix(std::min(size + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The tokens by rank, all of 0 .. n - 1.
std::vector<std::string> read_ranks(std::string_view text, const std::string& name) {
  std::vector<std::string> tokens(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  std::size_t number = 0, count = 0;
  while (!text.empty()) {
    ++number;
    const std::string_view line = next_line(text);
    if (line.empty()) continue;
    const std::optional<Rank> rank = parse_line(line);
    if (!rank) fail(ExitCode::kData, "{}:{}: expected a token in base64 and its rank", name, number);
    if (static_cast<std::size_t>(rank->rank) >= tokens.size())
      fail(ExitCode::kData, "{}:{}: rank {} in a file of {} lines", name, number, rank->rank, tokens.size());
    std::string& place = tokens[static_cast<std::size_t>(rank->rank)];
    if (!place.empty()) fail(ExitCode::kData, "{}:{}: rank {} is there twice", name, number, rank->rank);
    place = rank->token;
    ++count;
  }
  tokens.resize(count);
  const auto missing = std::find(tokens.begin(), tokens.end(), "");
  if (missing != tokens.end())
    fail(ExitCode::kData, "{}: no token has rank {}", name, missing - tokens.begin());
  return tokens;
}

// Every way to put a token together of two: the pair's rank is the token's.
std::vector<Merge> merges_of(const TextIds& ids) {
  std::vector<Merge> merges;
  for (const auto& [text, id] : ids) {
    const std::string_view token = text;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(cut));
      if (right != ids.end()) merges.push_back({left->second, right->second, id, id});
    }
  }
  return merges;
}

}  // namespace

bool looks_like_tiktoken(std::string_view bytes) {
  return parse_line(next_line(bytes)).has_value();
}

void put_ranks(const std::vector<std::string>& tokens, TokenizerParts& parts) {
  const auto first = static_cast<std::int32_t>(parts.pieces.size());
  for (std::size_t rank = 0; rank < tokens.size(); ++rank) {
    if (!parts.model.vocabulary.emplace(tokens[rank], first + static_cast<std::int32_t>(rank)).second)
      fail(ExitCode::kData, "{}: the token of rank {} is there twice", parts.name, rank);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (!parts.model.vocabulary.contains(std::string_view(std::string(1, static_cast<char>(byte)))))
      fail(ExitCode::kData, "{}: no token is the byte {}", parts.name, byte);
  }
  parts.pieces.insert(parts.pieces.end(), tokens.begin(), tokens.end());
  parts.model.merges = merges_of(parts.model.vocabulary);
  parts.model.whole_pieces_first = true;
}

TokenizerParts parse_tiktoken(std::string_view bytes, const std::string& name) {
  TokenizerParts parts;
  parts.name = name;
  const std::vector<std::string> tokens = read_ranks(bytes, name);
  const Family family = family_of(tokens.size(), name);
  put_ranks(tokens, parts);
  parts.splitter = Splitter(split_stages(*patterns_named(family.pattern)));
  parts.pieces.resize(family.ids);
  for (std::size_t i = 0; i < family.specials.size(); ++i) {
    const auto id = static_cast<std::int32_t>(family.first_special + i);
    parts.pieces[static_cast<std::size_t>(id)] = family.specials[i];
    parts.added.push_back({.id = id, .content = family.specials[i], .special = true});
    if (family.specials[i] == family.separator) parts.separator = id;
  }
  return parts;
}

}  // namespace jevons
