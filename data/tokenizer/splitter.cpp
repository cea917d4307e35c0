#include "data/tokenizer/splitter.h"

#include <algorithm>

#include "data/tokenizer/newer_characters.h"
#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

// Calls match(begin, end) for the matches that are not empty.
template <class F>
void each_match(const Regex& regex, std::string_view text, RegexMatcher& matcher, F&& match) {
  for (std::size_t from = 0; from < text.size();) {
    const std::optional<Span> found = matcher.find(regex, text, from);
    if (!found) return;
    from = found->end;
    if (found->begin < found->end) {
      match(found->begin, found->end);
    } else if (from < text.size()) {
      next_character(text, from);
    }
  }
}

struct Part {
  std::size_t begin, end;
  bool found;
};

// The pieces of parts that follow each other without gap.
std::vector<Span> grouped(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Span> pieces;
  bool was_found = false;
  const auto group = [&](const Part& part) {
    const bool join =
        behavior == SplitBehavior::kContiguous ? part.found == was_found : part.found && !was_found;
    if (join && !pieces.empty()) {
      pieces.back().begin = std::min(pieces.back().begin, part.begin);
      pieces.back().end = std::max(pieces.back().end, part.end);
    } else {
      pieces.push_back({part.begin, part.end});
    }
    was_found = part.found;
  };
  if (behavior == SplitBehavior::kMergedWithNext) {
    std::for_each(parts.rbegin(), parts.rend(), group);
    std::reverse(pieces.begin(), pieces.end());
  } else {
    std::for_each(parts.begin(), parts.end(), group);
  }
  return pieces;
}

}  // namespace

void Splitter::split(std::string_view text, TextPlace place, Scratch& scratch, const Sink& sink) const {
  scratch.stages.resize(stages_.size());
  Run run{place, scratch, sink};
  enter(0, {text, with_older_characters(text, scratch.shape)}, run);
}

void Splitter::enter(std::size_t stage, Shaped piece, Run& run) const {
  if (piece.size() == 0) return;
  if (stage == stages_.size()) return run.sink(piece.text);
  if (const auto* how = std::get_if<SplitStage>(&stages_[stage])) {
    const bool inverted = how->matches == Matches::kInverted;
    const bool simple = how->behavior == SplitBehavior::kIsolated || how->behavior == SplitBehavior::kRemoved;
    if (simple && (how->behavior == SplitBehavior::kIsolated || inverted))
      return isolate(stage, *how, piece, run);
    return regroup(stage, *how, piece, run);
  }
  if (const auto* how = std::get_if<MetaspaceStage>(&stages_[stage]))
    return mark_spaces(stage, *how, piece, run);
  put_blank(stage, piece, run);
}

// Matches and, unless they are removed, what lies between them.
void Splitter::isolate(std::size_t stage, const SplitStage& how, Shaped piece, Run& run) const {
  const bool keep_gaps = how.behavior == SplitBehavior::kIsolated;
  std::size_t done = 0;
  each_match(how.regex, piece.shape, run.scratch.matcher, [&](std::size_t begin, std::size_t end) {
    if (keep_gaps && done < begin) enter(stage + 1, piece.part(done, begin), run);
    enter(stage + 1, piece.part(begin, end), run);
    done = end;
  });
  if (keep_gaps && done < piece.size()) enter(stage + 1, piece.part(done, piece.size()), run);
}

void Splitter::regroup(std::size_t stage, const SplitStage& how, Shaped piece, Run& run) const {
  const bool inverted = how.matches == Matches::kInverted;
  std::vector<Part> parts;
  std::size_t done = 0;
  each_match(how.regex, piece.shape, run.scratch.matcher, [&](std::size_t begin, std::size_t end) {
    if (done < begin) parts.push_back({done, begin, inverted});
    parts.push_back({begin, end, !inverted});
    done = end;
  });
  if (done < piece.size()) parts.push_back({done, piece.size(), inverted});
  if (how.behavior == SplitBehavior::kRemoved) {
    for (const Part& part : parts) {
      if (!part.found) enter(stage + 1, piece.part(part.begin, part.end), run);
    }
    return;
  }
  for (const Span& span : grouped(parts, how.behavior))
    enter(stage + 1, piece.part(span.begin, span.end), run);
}

void Splitter::put_blank(std::size_t stage, Shaped piece, Run& run) const {
  if (piece.text[0] == ' ') return enter(stage + 1, piece, run);
  Scratch::OfStage& own = run.scratch.stages[stage];
  own.text.assign(" ").append(piece.text);
  own.shape.assign(" ").append(piece.shape);
  enter(stage + 1, {own.text, own.shape}, run);
}

void Splitter::mark_spaces(std::size_t stage, const MetaspaceStage& how, Shaped piece, Run& run) const {
  Scratch::OfStage& own = run.scratch.stages[stage];
  own.text.clear(), own.shape.clear();
  using Prepend = MetaspaceStage::Prepend;
  const bool wanted =
      how.prepend == Prepend::kAlways || (how.prepend == Prepend::kFirst && run.place == TextPlace::kFirst);
  const bool begins = piece.text[0] == ' ' || piece.text.starts_with(how.replacement);
  if (wanted && !begins) own.text += how.replacement, own.shape += how.replacement;
  for (std::size_t i = 0; i < piece.size(); ++i) {
    if (piece.text[i] == ' ') {
      own.text += how.replacement, own.shape += how.replacement;
    } else {
      own.text += piece.text[i], own.shape += piece.shape[i];
    }
  }
  const Shaped whole{own.text, own.shape};
  std::size_t begin = 0;
  while (how.split) {
    const std::size_t next = own.text.find(how.replacement, begin + 1);
    if (next == std::string::npos) break;
    enter(stage + 1, whole.part(begin, next), run);
    begin = next;
  }
  enter(stage + 1, whole.part(begin, whole.size()), run);
}

}  // namespace jevons
