#include "data/tokenizer/patterns.h"

#include <algorithm>
#include <iterator>

namespace jevons {
namespace {

// Files have line ends as they are or as \r and \n.
std::string canonical(const std::string& pattern) {
  std::string text;
  for (const char c : pattern) {
    if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

std::optional<std::vector<std::string>> patterns_named(std::string_view name) {
  if (name == "gpt2") return {{std::string(kGpt2Pattern)}};
  if (name == "llama3") return {{std::string(kLlama3Pattern)}};
  if (name == "qwen2") return {{std::string(kQwen2Pattern)}};
  if (name == "o200k") return {{std::string(kO200kPattern)}};
  if (name != "deepseek") return std::nullopt;
  return std::vector<std::string>(std::begin(kDeepSeekPatterns), std::end(kDeepSeekPatterns));
}

std::vector<Stage> split_stages(const std::vector<std::string>& patterns) {
  std::vector<Stage> stages;
  for (const std::string& pattern : patterns) stages.emplace_back(SplitStage{Regex(pattern, "pattern")});
  return stages;
}

WordEnds word_ends(const SplitStage& stage) {
  const bool cuts = stage.behavior == SplitBehavior::kIsolated ||
                    (stage.behavior == SplitBehavior::kRemoved && stage.matches == Matches::kInverted);
  if (!cuts) return WordEnds::kUnknown;
  const std::string text = canonical(stage.regex.pattern());
  const auto is = [&](std::string_view known) { return text == known; };
  constexpr std::string_view kWords[] = {kGpt2Pattern,  kLlama3Pattern, kQwen2Pattern,
                                         kO200kPattern, kTekkenPattern, kDeepSeekPatterns[2]};
  constexpr std::string_view kOthers[] = {kDigitPattern, kDigitsPattern, kDeepSeekPatterns[0],
                                          kDeepSeekPatterns[1]};
  if (std::any_of(std::begin(kWords), std::end(kWords), is)) return WordEnds::kBetweenThem;
  const bool other = std::any_of(std::begin(kOthers), std::end(kOthers), is);
  return other ? WordEnds::kNotInThem : WordEnds::kUnknown;
}

}  // namespace jevons
