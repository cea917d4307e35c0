// Regular expressions over UTF-8 as tokenizer files write them: Oniguruma's syntax (tokenizer.json) and
// Rust's (tiktoken), as far as both mean the same. By PCRE2, compiled to machine code where that is possible.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace jevons {

struct Span {
  std::size_t begin = 0, end = 0;
};

class Regex {
 public:
  // Throws Error(kData) as "place: what" for what it does not understand, or would understand otherwise.
  Regex(const std::string& pattern, const std::string& place);
  // A text that stands for itself.
  static Regex literal(const std::string& text);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  const std::string& pattern() const { return pattern_; }

 private:
  friend class RegexMatcher;
  Regex() = default;
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  bool compiled_ = false;  // to machine code
};

// The memory of a thread for its matches.
class RegexMatcher {
 public:
  RegexMatcher();
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  // The first match in `text`, which is UTF-8, that begins at `from` or behind. Throws Error(kData) if the
  // expression takes too long on it.
  std::optional<Span> find(const Regex& regex, std::string_view text, std::size_t from);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

}  // namespace jevons
