// load_tokenizer: which file there is, what kind it is, and what the files beside it say.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "data/tokenizer/json_node.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tiktoken.h"
#include "data/tokenizer/tokenizer_json.h"

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
  constexpr const char* kNames[] = {"tokenizer.json", "tokenizer.model", "qwen.tiktoken"};
  for (const char* name : kNames) {
    if (fs::is_regular_file(folder / name)) return folder / name;
  }
  fail(ExitCode::kData, "{}: the folder has neither tokenizer.json nor tokenizer.model", folder.string());
}

std::optional<nlohmann::json> json_beside(const fs::path& file, const char* name, std::string& place) {
  const fs::path path = file.parent_path() / name;
  if (!fs::is_regular_file(path)) return std::nullopt;
  place = path.string();
  try {
    return nlohmann::json::parse(read_file(path));
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kData, "{}: not valid JSON: {}", place, error.what());
  }
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

TokenizerParts parse(const std::string& bytes, const std::string& name) {
  if (bytes.empty()) fail(ExitCode::kData, "{}: the file is empty", name);
  const std::size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && bytes[first] == '{') return parse_tokenizer_json(bytes, name);
  return looks_like_tiktoken(bytes) ? parse_tiktoken(bytes, name) : parse_sentencepiece(bytes, name);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name) {
  if (name == kByteTokenizer) return std::make_unique<ByteTokenizer>();
  if (!fs::exists(name)) {
    fail(ExitCode::kUsage, "no tokenizer '{}': neither \"{}\" nor a file nor a folder ('{}')", name,
         kByteTokenizer, fs::absolute(name).string());
  }
  const fs::path file = fs::is_directory(name) ? file_in(name) : fs::path(name);
  TokenizerParts parts = parse(read_file(file), file.string());
  read_config(file, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace jevons
