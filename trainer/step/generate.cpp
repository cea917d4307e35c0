#include "trainer/step/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

// Logits (V) fp32 of the token after the last seq_len of `tokens`.
std::vector<float> next_logits(Worker& worker, const std::vector<std::int32_t>& tokens) {
  const Context& ctx = worker.ctx();
  const auto n =
      std::min<std::int64_t>(static_cast<std::int64_t>(tokens.size()), worker.config().model.seq_len);
  worker.reset_arenas();
  const Tensor window = ctx.stash->alloc({n}, DType::kI32);
  std::copy(tokens.end() - n, tokens.end(), window.ptr<std::int32_t>());
  const Tensor row = ctx.stash->alloc({1}, DType::kI32);
  *row.ptr<std::int32_t>() = static_cast<std::int32_t>(n - 1);
  const Tensor logits = worker.model().next_token_logits(ctx, window, row);
  const Tensor wide = ctx.stash->alloc(logits.shape, DType::kF32);
  cast(ctx, logits, wide);
  return {wide.span<float>().begin(), wide.span<float>().end()};
}

}  // namespace

std::int64_t sample_token(std::span<const float> logits, const Sampling& sampling, double uniform) {
  ENSURE(!logits.empty(), "no logits to sample from");
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](std::int64_t a, std::int64_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::sort(order.begin(), order.end(), likelier);
  if (sampling.temperature <= 0) return order[0];
  if (sampling.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(sampling.top_k)));
  const double best = logits[static_cast<std::size_t>(order[0])];
  std::vector<double> cumulative;
  double sum = 0;
  for (std::int64_t i : order) {
    sum += std::exp((logits[static_cast<std::size_t>(i)] - best) / sampling.temperature);
    cumulative.push_back(sum);
  }
  const auto it = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * sum);
  const auto drawn = std::min(static_cast<std::size_t>(it - cumulative.begin()), order.size() - 1);
  return order[drawn];
}

void generate(Worker& worker, std::vector<std::int32_t>& tokens, const Sampling& sampling,
              std::int32_t stop_token, const std::function<void(std::int32_t)>& on_token) {
  ENSURE(!tokens.empty(), "generation needs at least one token to start from");
  const RandomStream random(sampling.seed, "generate");
  for (std::int64_t i = 0; i < sampling.max_tokens; ++i) {
    const std::vector<float> logits = next_logits(worker, tokens);
    const auto token = static_cast<std::int32_t>(
        sample_token(logits, sampling, random.uniform(static_cast<std::uint64_t>(i))));
    if (token == stop_token) return;
    tokens.push_back(token);
    on_token(token);
  }
}

}  // namespace jevons
