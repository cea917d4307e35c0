#include "trainer/commands/model_tokenizer.h"

#include <algorithm>
#include <vector>

#include "kernels/core/error.h"
#include "trainer/hf/carried.h"

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

}  // namespace jevons
