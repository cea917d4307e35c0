#include "data/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "kernels/core/error.h"

namespace jevons {
namespace {

// White_Space; PCRE2's own \s has U+180E besides.
constexpr std::string_view kSpaces =
    R"(\t-\r\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// Letters, marks, digits, connectors, and, as Oniguruma has it, some fractions and letters in circles.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

// Writes a pattern so that PCRE2 takes it as Oniguruma does, or refuses it.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& place) : in_(pattern), place_(place) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        in_class();
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else {
        refuse_quantifier();
        out_ += in_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refused(std::string_view what) const {
    fail(ExitCode::kData, "{}: {} at {} of the expression is not supported: {}", place_, what, at_, in_);
  }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void escape() {
    if (at_ + 1 == in_.size()) refused("a \\ at the end");
    const char c = in_[at_ + 1];
    const auto set = [&](std::string_view members, bool negated) {
      if (negated && in_class_) refused(fmt::format("\\{} within [...]", c));
      out_ += in_class_ ? std::string(members) : fmt::format("[{}{}]", negated ? "^" : "", members);
      at_ += 2;
    };
    if (c == 's') return set(kSpaces, false);
    if (c == 'S') return set(kSpaces, true);
    if (c == 'w') return set(kWord, false);
    if (c == 'W') return set(kWord, true);
    if ((c == 'b' || c == 'B') && !in_class_) {
      const bool border = c == 'b';
      out_ += fmt::format("(?:(?<=[{0}])(?{1}[{0}])|(?<![{0}])(?{2}[{0}]))", kWord, border ? "!" : "=",
                          border ? "=" : "!");
      at_ += 2;
      return;
    }
    // \h is a hex digit there and a blank here; the others are there in one of the two only.
    constexpr std::string_view kOnlyOne = "hHRXKGcCMkgyYNOQEVoLlUuvZ";
    if (kOnlyOne.find(c) != std::string_view::npos) refused(fmt::format("\\{}", c));
    const bool braced =
        std::string_view("pPx").find(c) != std::string_view::npos && in_.substr(at_ + 2).starts_with('{');
    const std::size_t end = braced ? in_.find('}', at_) : at_ + 1;
    if (end == std::string_view::npos) refused("{ without }");
    copy(end + 1 - at_);
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') refused("an empty [...]");
  }

  void in_class() {
    if (next_is("&&")) refused("an intersection (&&)");
    if (in_[at_] == '[') refused("a set within a set");
    if (in_[at_] == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    constexpr std::array<std::string_view, 8> kKnown = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"};
    if (next_is("(?") || next_is("(*")) {
      for (const std::string_view known : kKnown) {
        if (next_is(known)) return copy(known.size());
      }
      refused("such a group");
    }
    copy(1);
  }

  // a{1,3}+ is possessive in one syntax, and a repetition of repetitions in the other.
  void refuse_quantifier() const {
    if (next_is("{,")) refused("{,n}");
    if (next_is("}+")) refused("+ behind {...}");
  }

  std::string_view in_;
  const std::string& place_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

pcre2_code* compile(const std::string& pattern, std::uint32_t options, const std::string& place) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   options | PCRE2_UTF, &error, &offset, nullptr);
  if (code == nullptr)
    fail(ExitCode::kData, "{}: {} at {} of the expression {}", place, message_of(error), offset, pattern);
  return code;
}

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

Regex::Regex(const std::string& pattern, const std::string& place) : pattern_(pattern) {
  // ^ and $ are at lines in Oniguruma, always.
  code_.reset(compile(Translator(pattern, place).run(), PCRE2_UCP | PCRE2_MULTILINE, place));
  compiled_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

Regex Regex::literal(const std::string& text) {
  Regex regex;
  regex.pattern_ = text;
  regex.code_.reset(compile(text, PCRE2_LITERAL, text));
  regex.compiled_ = pcre2_jit_compile(regex.code_.get(), PCRE2_JIT_COMPLETE) == 0;
  return regex;
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

struct RegexMatcher::Memory {
  static constexpr std::size_t kStackBytes = std::size_t{8} << 20;
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kStackBytes, nullptr);

  Memory() {
    ENSURE(match != nullptr && context != nullptr, "no memory for expressions");
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Memory() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
};

RegexMatcher::RegexMatcher() : memory_(std::make_unique<Memory>()) {}
RegexMatcher::~RegexMatcher() = default;

std::optional<Span> RegexMatcher::find(const Regex& regex, std::string_view text, std::size_t from) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int found = regex.compiled_ ? pcre2_jit_match(regex.code_.get(), subject, text.size(), from, 0,
                                                      memory_->match, memory_->context)
                                    : pcre2_match(regex.code_.get(), subject, text.size(), from,
                                                  PCRE2_NO_UTF_CHECK, memory_->match, memory_->context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    fail(ExitCode::kData, "the expression {} gives up at byte {} of {}: {}", regex.pattern(), from,
         text.size(), message_of(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(memory_->match);
  return Span{ends[0], ends[1]};
}

}  // namespace jevons
