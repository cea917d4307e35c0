// What is done to a text before it is split: normal forms, a prefix, replacements.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/unicode.h"

namespace jevons {

struct PrependStep {
  std::string text;
};
struct ReplaceStep {
  std::variant<std::string, Regex> pattern;  // a text that is not empty, or an expression
  std::string content;
};
using NormalizerStep = std::variant<NormalForm, PrependStep, ReplaceStep>;

class Normalizer {
 public:
  // One thread's memory; what apply() returns lies in it or is its argument.
  struct Scratch {
    std::string even, odd;
    RegexMatcher matcher;
  };

  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}
  bool empty() const { return steps_.empty(); }
  const std::vector<NormalizerStep>& steps() const { return steps_; }
  // Nothing is put before the rest of a text. `text` is UTF-8.
  std::string_view apply(std::string_view text, TextPart part, Scratch& scratch) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace jevons
