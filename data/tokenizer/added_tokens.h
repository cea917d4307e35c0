// Tokens that are found in a text as a whole before anything else is done to it. The longest that begins
// leftmost is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer.h"

namespace jevons {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;              // looked for in the normalized text; `content` is normalized too
  bool single_word = false;             // not within a word
  bool lstrip = false, rstrip = false;  // takes the white space before or behind it
};

class AddedTokens {
 public:
  AddedTokens() = default;
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }

  // Receives the parts of a text in order: `token` is null for text between tokens, which is not empty.
  using Part = std::function<void(std::string_view text, const AddedToken* token)>;
  void split(std::string_view text, Specials specials, const Part& part) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::int32_t>> next;  // ascending
    std::int32_t token = -1;
  };
  struct Match {
    std::size_t begin, end;
    const AddedToken* token;  // null: no more
  };
  Match find(std::string_view text, std::size_t from) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a tree of the contents' bytes
  std::vector<bool> begins_ = std::vector<bool>(256);
};

}  // namespace jevons
