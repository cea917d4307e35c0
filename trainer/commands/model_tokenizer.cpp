#include "trainer/commands/model_tokenizer.h"

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
  if (source.carried.empty()) return false;
  const std::vector<std::string> files = carried_files(source.carried);
  return std::any_of(files.begin(), files.end(), [](const std::string& name) {
    return name == "tokenizer.json" || name == "tokenizer.model";
  });
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
