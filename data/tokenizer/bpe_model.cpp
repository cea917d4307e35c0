#include "data/tokenizer/bpe_model.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "data/tokenizer/unicode.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kShort = 48;  // symbols up to which a scan beats a heap

// The lowest rank first, of equal ones the leftmost.
bool comes_later(const BpeModel::Scratch::Candidate& a, const BpeModel::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

std::size_t TextHash::operator()(std::string_view text) const {
  return XXH3_64bits(text.data(), text.size());
}

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * merges.size(), 16));
  slots_.assign(size, {.left = -1, .right = -1, .result = 0, .rank = 0});
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  for (const Merge& merge : merges) {
    std::size_t at = slot(merge.left, merge.right);
    while (slots_[at].left >= 0 && (slots_[at].left != merge.left || slots_[at].right != merge.right))
      at = (at + 1) & mask_;
    slots_[at] = merge;
  }
}

BpeModel::BpeModel(BpeParts parts)
    : symbols_(parts.symbols),
      whole_pieces_first_(parts.whole_pieces_first),
      fuse_unknown_(parts.fuse_unknown),
      unknown_(parts.unknown),
      byte_tokens_(std::move(parts.byte_tokens)),
      vocabulary_(std::move(parts.vocabulary)),
      merges_(parts.merges) {
  for (unsigned byte = 0; byte < bytes_.size(); ++byte) {
    const auto found = vocabulary_.find(std::string(1, static_cast<char>(byte)));
    bytes_[byte] = found == vocabulary_.end() ? -1 : found->second;
  }
  all_bytes_known_ = std::find(bytes_.begin(), bytes_.end(), -1) == bytes_.end();
}

void BpeModel::encode(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& ids) const {
  if (whole_pieces_first_) {
    const auto found = vocabulary_.find(piece);
    if (found != vocabulary_.end()) return ids.push_back(found->second);
  }
  scratch.ids.clear();
  put_symbols(piece, scratch.ids);
  scratch.ids.size() <= kShort ? merge_short(scratch) : merge_long(scratch);
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

void BpeModel::put_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (symbols_ == Symbols::kCharacters) return put_characters(piece, ids);
  if (all_bytes_known_) {
    for (const char c : piece) ids.push_back(bytes_[static_cast<unsigned char>(c)]);
    return;
  }
  bool pending = false;  // an unknown symbol that may yet be fused
  for (const char c : piece) {
    const std::int32_t id = bytes_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      ids.push_back(id);
    } else if (unknown_ && !(pending && fuse_unknown_)) {
      ids.push_back(*unknown_);
    }
    pending = id < 0;
  }
}

void BpeModel::put_characters(std::string_view piece, std::vector<std::int32_t>& ids) const {
  bool pending = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t begin = at;
    next_character(piece, at);
    const std::string_view character = piece.substr(begin, at - begin);
    const auto found = vocabulary_.find(character);
    if (found != vocabulary_.end()) {
      ids.push_back(found->second);
      pending = false;
    } else if (!put_bytes(character, ids) && unknown_) {
      if (!(pending && fuse_unknown_)) ids.push_back(*unknown_);
      pending = true;
    }
  }
}

// All bytes of a character, or none if one has no token.
bool BpeModel::put_bytes(std::string_view character, std::vector<std::int32_t>& ids) const {
  if (byte_tokens_.empty()) return false;
  const auto token = [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
  if (std::any_of(character.begin(), character.end(), [&](char c) { return token(c) < 0; })) return false;
  std::transform(character.begin(), character.end(), std::back_inserter(ids), token);
  return true;
}

void BpeModel::merge_short(Scratch& scratch) const {
  std::vector<std::int32_t>& ids = scratch.ids;
  if (ids.size() < 2) return;
  std::int32_t ranks[kShort];  // of the pairs i and i + 1
  std::int32_t results[kShort];
  constexpr std::int32_t kNone = std::numeric_limits<std::int32_t>::max();
  const auto look_up = [&](std::size_t i) {
    const Merge* merge = merges_.find(ids[i], ids[i + 1]);
    ranks[i] = merge == nullptr ? kNone : merge->rank;
    if (merge != nullptr) results[i] = merge->result;
  };
  std::size_t pairs = ids.size() - 1;
  for (std::size_t i = 0; i < pairs; ++i) look_up(i);
  while (pairs > 0) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < pairs; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == kNone) break;
    ids[best] = results[best];
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              ids.begin() + static_cast<std::ptrdiff_t>(pairs) + 1,
              ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(ranks + best + 1, ranks + pairs, ranks + best);
    std::copy(results + best + 1, results + pairs, results + best);
    --pairs;
    if (best > 0) look_up(best - 1);
    if (best < pairs) look_up(best);
  }
  ids.resize(pairs + 1);
}

// The symbols are a list in which a merged one disappears; candidates whose symbols have changed are dropped.
void BpeModel::merge_long(Scratch& scratch) const {
  std::vector<std::int32_t>& ids = scratch.ids;
  ENSURE(ids.size() < std::numeric_limits<std::int32_t>::max(), "a piece of {} symbols", ids.size());
  const auto size = static_cast<std::int32_t>(ids.size());
  constexpr std::int32_t kGone = -2;
  scratch.before.resize(ids.size());
  scratch.behind.resize(ids.size());
  scratch.heap.clear();
  const auto at = [](std::int32_t i) { return static_cast<std::size_t>(i); };
  const auto candidate = [&](std::int32_t i, auto&& put) {
    const std::int32_t next = scratch.behind[at(i)];
    if (next >= size) return;
    if (const Merge* merge = merges_.find(ids[at(i)], ids[at(next)]))
      put(Scratch::Candidate{merge->rank, i, merge->left, merge->right});
  };
  for (std::int32_t i = 0; i < size; ++i) scratch.before[at(i)] = i - 1, scratch.behind[at(i)] = i + 1;
  for (std::int32_t i = 0; i < size; ++i) candidate(i, [&](auto c) { scratch.heap.push_back(c); });
  std::make_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
  const auto push = [&](auto c) {
    scratch.heap.push_back(c);
    std::push_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
  };
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
    const Scratch::Candidate c = scratch.heap.back();
    scratch.heap.pop_back();
    const std::int32_t right = scratch.behind[at(c.at)];
    if (ids[at(c.at)] != c.left || right >= size || ids[at(right)] != c.right) continue;
    ids[at(c.at)] = merges_.find(c.left, c.right)->result;
    ids[at(right)] = kGone;
    const std::int32_t next = scratch.behind[at(right)];
    scratch.behind[at(c.at)] = next;
    if (next < size) scratch.before[at(next)] = c.at;
    if (scratch.before[at(c.at)] >= 0) candidate(scratch.before[at(c.at)], push);
    candidate(c.at, push);
  }
  ids.erase(std::remove(ids.begin(), ids.end(), kGone), ids.end());
}

}  // namespace jevons
