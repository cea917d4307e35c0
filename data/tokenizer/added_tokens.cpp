#include "data/tokenizer/added_tokens.h"

#include <algorithm>

#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

bool within_word(std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t before = begin, behind = end;
  return (begin > 0 && is_word(previous_character(text, before))) ||
         (end < text.size() && is_word(next_character(text, behind)));
}

std::size_t space_begin(std::string_view text, std::size_t end) {
  for (std::size_t at = end; at > 0; end = at) {
    if (!is_white_space(previous_character(text, at))) break;
  }
  return end;
}

std::size_t space_end(std::string_view text, std::size_t begin) {
  for (std::size_t at = begin; at < text.size(); begin = at) {
    if (!is_white_space(next_character(text, at))) break;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    std::size_t node = 0;
    for (const char c : tokens_[i].content) {
      const auto byte = static_cast<unsigned char>(c);
      auto& next = nodes_[node].next;
      const auto place = std::lower_bound(next.begin(), next.end(), std::pair(byte, std::int32_t{-1}));
      if (place != next.end() && place->first == byte) {
        node = static_cast<std::size_t>(place->second);
        continue;
      }
      next.insert(place, {byte, static_cast<std::int32_t>(nodes_.size())});
      node = nodes_.size();
      nodes_.emplace_back();
    }
    if (node == 0) continue;  // an empty one is found nowhere
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<std::int32_t>(i);
    begins_[static_cast<unsigned char>(tokens_[i].content[0])] = true;
  }
}

AddedTokens::Match AddedTokens::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    std::size_t node = 0, end = begin;
    Match match{begin, begin, nullptr};
    while (end < text.size()) {
      const auto& next = nodes_[node].next;
      const auto byte = static_cast<unsigned char>(text[end]);
      const auto place = std::lower_bound(next.begin(), next.end(), std::pair(byte, std::int32_t{-1}));
      if (place == next.end() || place->first != byte) break;
      node = static_cast<std::size_t>(place->second);
      ++end;
      if (nodes_[node].token >= 0)
        match.end = end, match.token = &tokens_[static_cast<std::size_t>(nodes_[node].token)];
    }
    if (match.token != nullptr) return match;
  }
  return {text.size(), text.size(), nullptr};
}

void AddedTokens::split(std::string_view text, Specials specials, const Part& part) const {
  std::size_t done = 0;
  for (Match m = find(text, 0); m.token != nullptr; m = find(text, m.end)) {
    // One that does not count has hidden those within it all the same.
    if (m.token->special && specials == Specials::kAreText) continue;
    if (m.token->single_word && within_word(text, m.begin, m.end)) continue;
    std::size_t begin = m.begin, end = m.end;
    if (m.token->lstrip) begin = std::max(space_begin(text, begin), done);
    if (m.token->rstrip) end = space_end(text, end);
    if (done < begin) part(text.substr(done, begin - done), nullptr);
    part(text.substr(begin, end - begin), m.token);
    done = end;
  }
  if (done < text.size()) part(text.substr(done), nullptr);
}

}  // namespace jevons
