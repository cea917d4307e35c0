#include "trainer/hf/model_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "kernels/core/error.h"
#include "trainer/hf/carried.h"
#include "trainer/io/file.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

std::string entry_of(const ModelSource& source, const char* key) {
  const auto found = source.state.passport.find(key);
  return found == source.state.passport.end() ? "" : found->second;
}

bool brings_tokenizer(const ModelSource& source) {
  return !source.carried.empty() && find_tokenizer(source.carried).has_value();
}

// Why the tokenizer of training cannot be had any more; "" if it can.
std::string obstacle_to(const std::string& trained, const std::string& hash) {
  if (trained != kByteTokenizer && !std::filesystem::exists(trained)) return "is not there any more";
  return load_tokenizer(trained)->hash() == hash ? "" : "is another one than at training";
}

// names: of the tokenizer's files in a folder.
void note_lone_model(const std::vector<std::string>& names, std::vector<std::string>& notes) {
  const auto has = [&](const char* name) { return std::ranges::find(names, name) != names.end(); };
  if (!has("tokenizer.model") || has("tokenizer.json") || has("tokenizer_config.json")) return;
  notes.emplace_back(
      "tokenizer.model stands alone: there is no tokenizer_config.json, which names the class that reads it");
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_of(const ModelSource& source, const std::string& wanted,
                                        std::int64_t vocab_size) {
  const std::string trained = entry_of(source, "tokenizer"), hash = entry_of(source, "tokenizer_hash");
  std::string name = wanted;
  if (name.empty()) name = brings_tokenizer(source) ? source.carried : trained;
  if (name.empty()) name = kByteTokenizer;
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(name);
  if (!hash.empty() && hash != tokenizer->hash())
    fail(ExitCode::kUsage, "{}: the model was trained on tokens of {} (hash {}), not of {} (hash {})",
         source.path, trained, hash, name, tokenizer->hash());
  if (name == kByteTokenizer && vocab_size > tokenizer->vocab_size())
    fail(ExitCode::kUsage,
         "{}: the model knows {} tokens, so they are not bytes, and it came without a tokenizer", source.path,
         vocab_size);
  return tokenizer;
}

FolderTokenizer folder_tokenizer(const ModelSource& source) {
  const std::string trained = entry_of(source, "tokenizer"), hash = entry_of(source, "tokenizer_hash");
  FolderTokenizer found;
  if (brings_tokenizer(source)) {
    if (hash.empty() || load_tokenizer(source.carried)->hash() == hash) {
      note_lone_model(carried_files(source.carried), found.notes);
      return found;
    }
    found.keeps_carried = false;
    found.notes.push_back(fmt::format(
        "the tokenizer that came with the weights is left out: the model was trained on tokens of {}",
        trained));
  }
  if (hash.empty()) {
    found.notes.emplace_back(
        "no tokenizer is written: no file says which one made the tokens of training (data prepare does)");
    return found;
  }
  if (const std::string obstacle = obstacle_to(trained, hash); !obstacle.empty()) {
    found.notes.push_back(fmt::format("no tokenizer is written: {} {}", trained, obstacle));
    return found;
  }
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(trained);
  found.files = tokenizer_files(trained);
  std::vector<std::string> names;
  for (const TokenizerFile& file : found.files) names.push_back(file.name);
  note_lone_model(names, found.notes);
  found.end = tokenizer->separator();
  if (!tokenizer->prefix().empty()) found.begin = tokenizer->prefix().front();
  return found;
}

std::vector<std::int32_t> stop_tokens_of(const ModelSource& source, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> stops;
  if (tokenizer.separator()) stops.push_back(*tokenizer.separator());
  const std::filesystem::path path = std::filesystem::path(source.carried) / "generation_config.json";
  if (source.carried.empty() || !std::filesystem::exists(path)) return stops;
  const nlohmann::json config = parse_strict_json(read_text_file(path.string()), path.string(), 16);
  const auto found = config.is_object() ? config.find("eos_token_id") : config.end();
  if (found == config.end() || found->is_null()) return stops;
  const nlohmann::json list = found->is_array() ? *found : nlohmann::json::array({*found});
  for (const nlohmann::json& id : list) {
    if (!id.is_number_integer()) fail(ExitCode::kData, "{}: eos_token_id is no token", path.string());
    stops.push_back(id.get<std::int32_t>());
  }
  return stops;
}

}  // namespace jevons
