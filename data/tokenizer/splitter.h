// Cuts a text into the pieces that the model sees one by one: stages, each of which cuts the pieces of the
// one before.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer/regex.h"

namespace jevons {

// What becomes of the matches of an expression and of what lies between them: all are pieces; only what lies
// between; a match is part of the piece before it, or behind it; matches in a row are one piece.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
enum class Matches { kAsFound, kInverted };  // inverted: what lies between counts as found

struct SplitStage {
  Regex regex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  Matches matches = Matches::kAsFound;
};
// A blank before a piece that begins with none.
struct BlankStage {};
// Blanks become `replacement`, one is put before, and each begins a piece.
struct MetaspaceStage {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\xe2\x96\x81";  // U+2581
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
// Whether something of the whole text lies before what is split.
enum class TextPlace { kFirst, kLater };
using Stage = std::variant<SplitStage, BlankStage, MetaspaceStage>;

class Splitter {
 public:
  using Sink = std::function<void(std::string_view piece)>;
  // One thread's memory.
  struct Scratch {
    RegexMatcher matcher;
    std::string shape;
    struct OfStage {
      std::string text, shape;
      std::vector<Span> spans;
    };
    std::vector<OfStage> stages;
  };

  Splitter() = default;
  explicit Splitter(std::vector<Stage> stages) : stages_(std::move(stages)) {}
  const std::vector<Stage>& stages() const { return stages_; }
  // Gives the pieces in order, none of them empty. `text` is UTF-8.
  void split(std::string_view text, TextPlace place, Scratch& scratch, const Sink& sink) const;

 private:
  // A text, and one of the same size that expressions see in its place (newer_characters.h).
  struct Shaped {
    std::string_view text, shape;
    std::size_t size() const { return text.size(); }
    Shaped part(std::size_t begin, std::size_t end) const {
      return {text.substr(begin, end - begin), shape.substr(begin, end - begin)};
    }
  };
  struct Run {
    TextPlace place;
    Scratch& scratch;
    const Sink& sink;
  };
  void enter(std::size_t stage, Shaped piece, Run& run) const;
  void isolate(std::size_t stage, const SplitStage& how, Shaped piece, Run& run) const;
  void regroup(std::size_t stage, const SplitStage& how, Shaped piece, Run& run) const;
  void put_blank(std::size_t stage, Shaped piece, Run& run) const;
  void mark_spaces(std::size_t stage, const MetaspaceStage& how, Shaped piece, Run& run) const;

  std::vector<Stage> stages_;
};

}  // namespace jevons
