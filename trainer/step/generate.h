// Text from a trained model, on one worker: several sequences at once, each token by a pass over that token
// alone behind a cache of what its sequence's earlier tokens left.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "trainer/step/model_worker.h"

namespace jevons {

struct Sampling {
  std::int64_t max_tokens = 200;
  double temperature = 0.8;  // 0: always the likeliest token
  std::int64_t top_k = 0;    // draw among this many likeliest tokens; 0: all
  double top_p = 1;          // and among the fewest likeliest whose probabilities sum to this (Holtzman et
                             // al., arXiv:1904.09751)
  std::uint64_t seed = 1;
};

// Index drawn from softmax(logits / temperature) over the top_k largest, of those over the top_p, with
// `uniform` in [0, 1). Ties go to the lower index.
std::int64_t sample_token(std::span<const float> logits, const Sampling& sampling, double uniform);

struct Continuation {
  std::vector<std::int32_t> tokens;  // at least one to begin with; new ones are added
  bool ended = false;                // by a stop token, which is not among the tokens
};

struct GenerationCost {
  std::int64_t prompt_tokens = 0, new_tokens = 0;  // stop tokens are new tokens too
  double prompt_seconds = 0, new_seconds = 0;      // of the worker, passes and draws
};

// Told of each new token of texts[text].
using OnToken = std::function<void(std::size_t text, std::int32_t token)>;

struct GenerationLimits {
  std::int64_t at_once = 8;                        // texts that are continued together
  std::span<const std::int32_t> stop_tokens = {};  // each ends a text
};

// Continues every text by up to sampling.max_tokens. What a text becomes depends on it, on its place in
// `texts` and on the seed, not on what is continued beside it, where a row's bits do not depend on other rows
// (docs/numerics.md). A text that has grown beyond the model's seq_len goes on behind the last half of that.
GenerationCost generate(ModelWorker& worker, std::span<Continuation> texts, const Sampling& sampling,
                        const GenerationLimits& limits, const OnToken& on_token);

}  // namespace jevons
