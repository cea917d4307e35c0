#include "data/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_set>

#include "kernels/core/error.h"

namespace jevons {
namespace {

struct Word {
  std::vector<std::int32_t> ids;
  std::int64_t count;
};

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

struct Pair {
  std::int64_t count = 0, offered = 0;  // offered: what its newest candidate says
  std::vector<std::uint32_t> words;     // that have it, or had it; some more than once
};

struct KeyHash {
  std::size_t operator()(std::uint64_t key) const {
    return static_cast<std::size_t>(key * 0x9e3779b97f4a7c15u >> 16);
  }
};

struct Candidate {
  std::int64_t count;
  std::uint64_t key;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : key > other.key;
  }
};

class BpeTrainer {
 public:
  BpeTrainer(const PieceCounts& pieces, const TrainingGoal& goal)
      : goal_(goal), never_(goal.never.begin(), goal.never.end()) {
    for (int byte = 0; byte < 256; ++byte) add_token(std::string(1, static_cast<char>(byte)));
    // Their order decides nothing but the order of `words`; it is made the same all the same.
    std::vector<const PieceCounts::value_type*> sorted;
    for (const auto& piece : pieces) sorted.push_back(&piece);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    ENSURE(sorted.size() < std::numeric_limits<std::uint32_t>::max(), "{} different pieces", sorted.size());
    for (const auto* piece : sorted) {
      Word word{{}, piece->second};
      for (const char c : piece->first) word.ids.push_back(static_cast<unsigned char>(c));
      result_.bytes += std::ssize(piece->first) * piece->second;
      words_.push_back(std::move(word));
    }
  }

  TrainedBpe run() {
    for (std::uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      for (std::size_t i = 0; i + 1 < word.ids.size(); ++i)
        change(word.ids[i], word.ids[i + 1], word.count, w);
    }
    offer_touched();
    while (std::ssize(result_.tokens) < goal_.tokens && join_next()) {
    }
    for (const Word& word : words_) result_.ids += std::ssize(word.ids) * word.count;
    return std::move(result_);
  }

 private:
  std::int32_t add_token(const std::string& token) {
    const auto [place, added] = ids_.emplace(token, static_cast<std::int32_t>(result_.tokens.size()));
    if (added) result_.tokens.push_back(token);
    return place->second;
  }

  void change(std::int32_t left, std::int32_t right, std::int64_t count, std::uint32_t word) {
    const std::uint64_t key = key_of(left, right);
    Pair& pair = pairs_[key];
    pair.count += count;
    if (count > 0 && (pair.words.empty() || pair.words.back() != word)) pair.words.push_back(word);
    touched_.push_back(key);
  }

  // Joins the most frequent pair; false if there is none that is frequent enough.
  bool join_next() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const auto found = pairs_.find(best.key);
      if (found == pairs_.end() || found->second.count != best.count) continue;  // there is a newer one
      if (best.count < std::max<std::int64_t>(goal_.min_frequency, 1)) return false;
      const auto left = static_cast<std::int32_t>(best.key >> 32),
                 right = static_cast<std::int32_t>(best.key & 0xffffffff);
      const std::string token =
          result_.tokens[static_cast<std::size_t>(left)] + result_.tokens[static_cast<std::size_t>(right)];
      if (never_.contains(token)) continue;
      const std::int32_t id = add_token(token);
      result_.merges.push_back({left, right, id, static_cast<std::int32_t>(result_.merges.size())});
      const std::vector<std::uint32_t> words = std::move(found->second.words);
      for (const std::uint32_t word : words) join(word, left, right, id);
      pairs_.erase(best.key);
      offer_touched();
      return true;
    }
    return false;
  }

  // Joins the pair in a word from left to right, and counts its neighbours anew.
  void join(std::uint32_t w, std::int32_t left, std::int32_t right, std::int32_t id) {
    Word& word = words_[w];
    std::vector<std::int32_t>& ids = word.ids;
    const auto has = [&](std::size_t i) {
      return i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
    };
    bool any = false;
    for (std::size_t i = 0; i < ids.size() && !any; ++i) any = has(i);
    if (!any) return;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) change(ids[i], ids[i + 1], -word.count, w);
    std::size_t out = 0;
    for (std::size_t i = 0; i < ids.size(); ++out) {
      const bool joined = has(i);
      ids[out] = joined ? id : ids[i];
      i += joined ? 2 : 1;
    }
    ids.resize(out);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) change(ids[i], ids[i + 1], word.count, w);
  }

  void offer_touched() {
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const std::uint64_t key : touched_) {
      const auto found = pairs_.find(key);
      if (found == pairs_.end()) continue;
      if (found->second.count == 0) {
        pairs_.erase(found);
      } else if (found->second.count != found->second.offered) {
        found->second.offered = found->second.count;
        candidates_.push({found->second.count, key});
      }
    }
    touched_.clear();
  }

  const TrainingGoal& goal_;
  std::unordered_set<std::string> never_;
  TrainedBpe result_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, Pair, KeyHash> pairs_;
  std::priority_queue<Candidate> candidates_;
  std::vector<std::uint64_t> touched_;
};

}  // namespace

TrainedBpe train_bpe(const PieceCounts& pieces, const TrainingGoal& goal) {
  return BpeTrainer(pieces, goal).run();
}

}  // namespace jevons
