// Text from a trained model: one token at a time on one worker, over the last seq_len tokens. There is no
// key-value cache; this is for looking at a model, not for serving it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "trainer/step/worker.h"

namespace jevons {

struct Sampling {
  std::int64_t max_tokens = 200;
  double temperature = 0.8;  // 0: always the likeliest token
  std::int64_t top_k = 0;    // draw among this many likeliest tokens; 0: all
  std::uint64_t seed = 1;
};

// Index drawn from softmax(logits / temperature) over the top_k largest, with `uniform` in [0, 1). Ties go to
// the lower index.
std::int64_t sample_token(std::span<const float> logits, const Sampling& sampling, double uniform);

// Continues `tokens` (at least one) in place; calls `on_token` for each new one and stops early at
// `stop_token`.
void generate(Worker& worker, std::vector<std::int32_t>& tokens, const Sampling& sampling,
              std::int32_t stop_token, const std::function<void(std::int32_t)>& on_token);

}  // namespace jevons
