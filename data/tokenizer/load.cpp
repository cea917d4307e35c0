// load_tokenizer: which file there is, what kind it is, and what the files beside it say.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "data/tokenizer/json_node.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tekken.h"
#include "data/tokenizer/tiktoken.h"
#include "data/tokenizer/tokenizer_json.h"
#include "data/tokenizer/write_json.h"
#include "data/tokenizer_files.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in.good() && !in.eof()) fail(ExitCode::kData, "{}: cannot be read", path.string());
  return bytes;
}

fs::path file_in(const fs::path& folder) {
  const std::optional<std::string> file = find_tokenizer(folder.string());
  if (!file)
    fail(ExitCode::kData, "{}: the folder has neither tokenizer.json nor tokenizer.model, nor ranks",
         folder.string());
  return *file;
}

std::optional<nlohmann::json> json_beside(const fs::path& file, const char* name, std::string& place) {
  const fs::path path = file.parent_path() / name;
  if (!fs::is_regular_file(path)) return std::nullopt;
  place = path.string();
  return parse_json(read_file(path), place);
}

// A token that tokenizer_config.json names: a string, or an object with its content.
std::optional<std::string> token_named(const JsonNode& config, const char* key) {
  const auto node = config.find(key);
  if (!node) return std::nullopt;
  return node->json().is_object() ? node->at("content").text() : node->text();
}

std::optional<std::int32_t> id_of(const TokenizerParts& parts, const std::string& content) {
  for (const AddedToken& token : parts.added) {
    if (token.content == content) return token.id;
  }
  const auto found = parts.model.vocabulary.find(content);
  return found == parts.model.vocabulary.end() ? std::nullopt : std::optional(found->second);
}

// Where no file says what ends a text: the first of the usual names that is a token.
std::optional<std::int32_t> usual_separator(const TokenizerParts& parts) {
  for (const char* name :
       {"<|endoftext|>", "<|end_of_text|>", "</s>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<eos>"}) {
    if (const auto id = id_of(parts, name)) return id;
  }
  return std::nullopt;
}

void read_config(const fs::path& file, TokenizerParts& parts) {
  std::string place;
  if (const auto json = json_beside(file, "tokenizer_config.json", place)) {
    const JsonNode config(*json, place);
    const auto id = [&](const char* key) -> std::optional<std::int32_t> {
      const auto name = token_named(config, key);
      if (!name) return std::nullopt;
      const auto found = id_of(parts, *name);
      if (!found) config.refused(fmt::format("{} \"{}\" is not in {}", key, *name, file.string()));
      return found;
    };
    if (const auto end = id("eos_token")) parts.separator = end;
    if (const auto add = config.find("add_bos_token")) {
      parts.prefix.clear();
      if (const auto begin = add->flag() ? id("bos_token") : std::nullopt) parts.prefix = {*begin};
    }
  }
  if (!parts.separator) parts.separator = usual_separator(parts);
}

enum class Format { kTokenizerJson, kTekken, kTiktoken, kSentencePiece };

Format format_of(const std::string& bytes, const std::string& name) {
  if (bytes.empty()) fail(ExitCode::kData, "{}: the file is empty", name);
  const std::size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && bytes[first] == '{')
    return looks_like_tekken(bytes) ? Format::kTekken : Format::kTokenizerJson;
  return looks_like_tiktoken(bytes) ? Format::kTiktoken : Format::kSentencePiece;
}

// A tokenizer's file, and what it and the files beside it say.
struct Loaded {
  fs::path file;
  std::string bytes;
  Format format;
  TokenizerParts parts;
};

Loaded load(const std::string& name) {
  if (!fs::exists(name)) {
    fail(ExitCode::kUsage, "no tokenizer '{}': neither \"{}\" nor a file nor a folder ('{}')", name,
         kByteTokenizer, fs::absolute(name).string());
  }
  const fs::path file = fs::is_directory(name) ? file_in(name) : fs::path(name);
  Loaded loaded{.file = file, .bytes = read_file(file), .format = {}, .parts = {}};
  loaded.format = format_of(loaded.bytes, file.string());
  const auto parse = [&] {
    switch (loaded.format) {
      case Format::kTokenizerJson:
        return parse_tokenizer_json(loaded.bytes, file.string());
      case Format::kTekken:
        return parse_tekken(loaded.bytes, file.string());
      case Format::kTiktoken:
        return parse_tiktoken(loaded.bytes, file.string());
      case Format::kSentencePiece:
        return parse_sentencepiece(loaded.bytes, file.string());
    }
    return TokenizerParts();
  };
  loaded.parts = parse();
  read_config(file, loaded.parts);
  return loaded;
}

constexpr const char* kConfig = "tokenizer_config.json";

// For a tokenizer.json alone.
TokenizerFile config_for(const TokenizerParts& parts) {
  nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                   {"clean_up_tokenization_spaces", false}};
  for (const AddedToken& token : parts.added) {
    if (token.id == parts.separator) config["eos_token"] = token.content;
    if (!parts.prefix.empty() && token.id == parts.prefix.front()) config["bos_token"] = token.content;
  }
  return {kConfig, config.dump(2) + "\n"};
}

std::vector<TokenizerFile> files_beside(const fs::path& file) {
  std::vector<TokenizerFile> files;
  for (const char* name : {kConfig, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
                           "chat_template.json"}) {
    const fs::path path = file.parent_path() / name;
    if (fs::is_regular_file(path)) files.push_back({name, read_file(path)});
  }
  return files;
}

}  // namespace

std::optional<std::string> find_tokenizer(const std::string& folder) {
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tekken.json", "qwen.tiktoken", "tiktoken.model"}) {
    const fs::path path = fs::path(folder) / name;
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored)) return path.string();
  }
  return std::nullopt;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name) {
  if (name == kByteTokenizer) return std::make_unique<ByteTokenizer>();
  return std::make_unique<BpeTokenizer>(load(name).parts);
}

std::vector<TokenizerFile> tokenizer_files(const std::string& name) {
  const auto written = [](const TokenizerParts& parts) {
    return std::vector<TokenizerFile>{{"tokenizer.json", format_tokenizer_json(parts)}, config_for(parts)};
  };
  if (name == kByteTokenizer) return written(parts_of_bytes());
  Loaded loaded = load(name);
  // What stands beside ranks is for programs that read those.
  if (loaded.format == Format::kTekken || loaded.format == Format::kTiktoken) return written(loaded.parts);
  const bool is_json = loaded.format == Format::kTokenizerJson;
  std::vector<TokenizerFile> files = files_beside(loaded.file);
  const bool has_config = !files.empty() && files.front().name == kConfig;
  if (is_json && !has_config) files.push_back(config_for(loaded.parts));
  files.push_back({is_json ? "tokenizer.json" : "tokenizer.model", std::move(loaded.bytes)});
  return files;
}

}  // namespace jevons
