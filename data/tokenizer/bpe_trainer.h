// Learns merges: again and again the pair of neighbours that is most frequent becomes a token. Sennrich et
// al. 2016.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/bpe_model.h"

namespace jevons {

// How often each piece of text occurs.
using PieceCounts = std::unordered_map<std::string, std::int64_t, TextHash, std::equal_to<>>;

struct TrainedBpe {
  std::vector<std::string> tokens;  // by id: the 256 bytes, then what was joined
  std::vector<Merge> merges;        // in their order, ids as above
  std::int64_t bytes = 0, ids = 0;  // of the text, and how many ids it has
};

struct TrainingGoal {
  std::int64_t tokens = 0;         // at most so many, the 256 bytes included
  std::int64_t min_frequency = 2;  // a pair that occurs less often is not joined
  std::vector<std::string> never;  // no token becomes one of these
};

// The same for the same counts. Of equally frequent pairs the one with the lower left, then the lower right
// id is joined.
TrainedBpe train_bpe(const PieceCounts& pieces, const TrainingGoal& goal);

}  // namespace jevons
