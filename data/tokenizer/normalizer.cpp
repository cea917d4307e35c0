#include "data/tokenizer/normalizer.h"

namespace jevons {
namespace {

void replace_text(std::string_view text, const std::string& pattern, const std::string& content,
                  std::string& out) {
  for (std::size_t found; (found = text.find(pattern)) != std::string_view::npos;) {
    out += text.substr(0, found);
    out += content;
    text.remove_prefix(found + pattern.size());
  }
  out += text;
}

void replace_matches(std::string_view text, const Regex& pattern, const std::string& content,
                     Normalizer::Scratch& scratch, std::string& out) {
  std::size_t done = 0;
  for (std::size_t from = 0; from < text.size();) {
    const std::optional<Span> match = scratch.matcher.find(pattern, text, from);
    if (!match) break;
    from = match->end;
    if (match->begin == match->end) {
      if (from < text.size()) next_character(text, from);
      continue;
    }
    out += text.substr(done, match->begin - done);
    out += content;
    done = match->end;
  }
  out += text.substr(done);
}

}  // namespace

std::string_view Normalizer::apply(std::string_view text, TextPart part, Scratch& scratch) const {
  std::string* out = &scratch.even;
  for (const NormalizerStep& step : steps_) {
    if (const auto* form = std::get_if<NormalForm>(&step)) {
      const std::string_view changed = normalized(text, *form, *out);
      if (changed.data() == text.data()) continue;
      text = changed;
    } else if (const auto* prepend = std::get_if<PrependStep>(&step)) {
      if (text.empty() || part == TextPart::kRest) continue;
      out->assign(prepend->text).append(text);
      text = *out;
    } else {
      const auto& replace = std::get<ReplaceStep>(step);
      out->clear();
      if (const auto* pattern = std::get_if<std::string>(&replace.pattern)) {
        replace_text(text, *pattern, replace.content, *out);
      } else {
        replace_matches(text, std::get<Regex>(replace.pattern), replace.content, scratch, *out);
      }
      text = *out;
    }
    out = out == &scratch.even ? &scratch.odd : &scratch.even;
  }
  return text;
}

}  // namespace jevons
