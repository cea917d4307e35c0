#include "data/token_facts.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;

std::string content_of(const TokenFile& file) {
  return fmt::format("{:016x}", file.hash(TokenFile::HashDepth::kSampled));
}

Json parse(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  try {
    return Json::parse(in);
  } catch (const Json::exception& error) {
    fail(ExitCode::kData, "{}: not valid JSON: {}", path, error.what());
  }
}

}  // namespace

std::string facts_path(const std::string& prefix) {
  return prefix + ".tokens.json";
}

bool is_facts_file(const std::string& path) {
  try {
    const Json json = parse(path);
    return json.is_object() && json.contains("tokenizer_hash") && json.contains("text_bytes");
  } catch (const Error&) {
    return false;
  }
}

void write_facts(const std::string& prefix, const TokenFacts& facts) {
  const Json json = {{"format", kFormat},
                     {"tokenizer", facts.tokenizer},
                     {"tokenizer_hash", facts.tokenizer_hash},
                     {"vocab_size", facts.vocab_size},
                     {"separator", facts.separator},
                     {"text_bytes", facts.text_bytes},
                     {"tokens", facts.tokens},
                     {"documents", facts.documents},
                     {"content", content_of(TokenFile(prefix))}};
  const std::string text = json.dump(2) + "\n";
  AtomicFile file(facts_path(prefix));
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

std::optional<TokenFacts> read_facts(const TokenFile& file) {
  const std::string bin = file.path();
  if (file.index() == nullptr || !bin.ends_with(".bin")) return std::nullopt;
  const std::string path = facts_path(bin.substr(0, bin.size() - 4));
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json json = parse(path);
  try {
    if (json.at("format") != kFormat)
      fail(ExitCode::kData, "{}: format {}, known is {}", path, json.at("format").dump(), kFormat);
    if (json.at("content") != content_of(file) || json.at("tokens") != file.num_tokens())
      fail(ExitCode::kData, "{}: describes other tokens than {} has; remove it if the tokens were replaced",
           path, bin);
    return TokenFacts{.tokenizer = json.at("tokenizer"),
                      .tokenizer_hash = json.at("tokenizer_hash"),
                      .vocab_size = json.at("vocab_size"),
                      .separator = json.at("separator"),
                      .text_bytes = json.at("text_bytes"),
                      .tokens = json.at("tokens"),
                      .documents = json.at("documents")};
  } catch (const Json::exception& error) {
    fail(ExitCode::kData, "{}: {}", path, error.what());
  }
}

}  // namespace jevons
