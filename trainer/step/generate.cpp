#include "trainer/step/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

std::int64_t likeliest(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<std::int64_t>(best);
}

// The tokens that may be drawn: the top_k likeliest, by falling likelihood if top_p cuts them further.
std::vector<std::int64_t> candidates(std::span<const float> logits, const Sampling& sampling) {
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](std::int64_t a, std::int64_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const bool some = sampling.top_k > 0 && static_cast<std::size_t>(sampling.top_k) < order.size();
  if (some) {
    std::partial_sort(order.begin(), order.begin() + sampling.top_k, order.end(), likelier);
    order.resize(static_cast<std::size_t>(sampling.top_k));
  } else if (sampling.top_p < 1) {
    std::sort(order.begin(), order.end(), likelier);
  }
  return order;
}

// One text under way. Its tokens from `first` on have the positions 0, 1, ... of a cached sequence.
struct Live {
  std::size_t text = 0;
  std::int64_t slot = 0, first = 0, drawn = 0;
};

class Generator {
 public:
  Generator(ModelWorker& worker, std::span<Continuation> texts, const Sampling& sampling,
            const GenerationLimits& limits, const OnToken& on_token)
      : worker_(worker),
        texts_(texts),
        sampling_(sampling),
        limits_(limits),
        on_token_(on_token),
        random_(sampling.seed, "generate"),
        cache_(worker.stages().whole().make_cache(cache_size())) {
    for (std::int64_t slot = cache_.size().sequences; slot-- > 0;) free_.push_back(slot);
  }

  GenerationCost run() {
    for (;;) {
      while (!free_.empty() && next_ < texts_.size()) begin_text();
      if (live_.empty()) return cost_;
      decode();
    }
  }

 private:
  CacheSize cache_size() const {
    std::int64_t longest = 1;
    for (const Continuation& text : texts_) {
      ENSURE(!text.tokens.empty(), "generation needs at least one token to start from");
      longest = std::max(longest, std::ssize(text.tokens) + sampling_.max_tokens);
    }
    return {.sequences = std::clamp<std::int64_t>(std::ssize(texts_), 1, limits_.at_once),
            .positions = std::min(longest, worker_.config().model.seq_len)};
  }

  std::int64_t positions() const { return cache_.size().positions; }

  void begin_text() {
    Live live{.text = next_++, .slot = free_.back()};
    free_.pop_back();
    const std::int64_t length = std::ssize(texts_[live.text].tokens);
    live.first = std::max<std::int64_t>(0, length - positions());
    const auto logits = timed(cost_.prompt_seconds, [&] { return prefill(live); });
    cost_.prompt_tokens += length - live.first;
    if (take(live, logits)) live_.push_back(live);
  }

  // The next token of all texts under way.
  void decode() {
    for (Live& live : live_) {
      const std::int64_t length = std::ssize(texts_[live.text].tokens);
      if (length - live.first <= positions()) continue;
      live.first = length - std::max<std::int64_t>(1, positions() / 2);
      // All but the last token, which the pass below takes like any other.
      timed(cost_.new_seconds, [&] { return prefill(live); });
    }
    const std::vector<float> logits = timed(cost_.new_seconds, [&] { return decode_logits(); });
    const std::size_t vocab = logits.size() / live_.size();
    std::vector<Live> on;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      if (take(live_[i], std::span(logits).subspan(i * vocab, vocab))) on.push_back(live_[i]);
    }
    live_ = std::move(on);
  }

  template <class F>
  static std::vector<float> timed(double& seconds, F f) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<float> result = f();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  }

  Tensor upload(const std::vector<std::int32_t>& values) const {
    const Context& ctx = worker_.ctx();
    const std::int64_t n = std::ssize(values);
    const Tensor to = ctx.stash->alloc({n}, DType::kI32);
    const Tensor from{const_cast<std::int32_t*>(values.data()), {n}, DType::kI32, Device::kCpu};
    copy_and_wait(ctx.stream, to, from);
    return to;
  }

  // All of `logits`, row by row.
  std::vector<float> download(Tensor logits) const {
    const Context& ctx = worker_.ctx();
    const Tensor wide = ctx.stash->alloc(logits.shape, DType::kF32);
    cast(ctx, logits, wide);
    std::vector<float> values(static_cast<std::size_t>(wide.numel()));
    copy_and_wait(ctx.stream, {values.data(), wide.shape, DType::kF32, Device::kCpu}, wide);
    worker_.finish_passes();
    return values;
  }

  std::vector<float> prefill(const Live& live) {
    const std::vector<std::int32_t>& tokens = texts_[live.text].tokens;
    worker_.reset_arenas();
    const Tensor window = upload({tokens.begin() + live.first, tokens.end()});
    return download(worker_.stages().whole().prefill(worker_.ctx(), window, live.slot, cache_));
  }

  std::vector<float> decode_logits() {
    std::vector<std::int32_t> last, slots, places;
    for (const Live& live : live_) {
      const std::vector<std::int32_t>& tokens = texts_[live.text].tokens;
      last.push_back(tokens.back());
      slots.push_back(static_cast<std::int32_t>(live.slot));
      places.push_back(static_cast<std::int32_t>(std::ssize(tokens) - 1 - live.first));
    }
    worker_.reset_arenas();
    const CachePlaces rows{
        .slots = upload(slots), .positions = upload(places), .capacity = cache_.size().positions};
    return download(worker_.stages().whole().decode(worker_.ctx(), upload(last), rows, cache_));
  }

  // Draws a token; whether the text goes on.
  bool take(Live& live, std::span<const float> logits) {
    const auto draw = (static_cast<std::uint64_t>(live.text) << 32) + static_cast<std::uint64_t>(live.drawn);
    const auto token = static_cast<std::int32_t>(sample_token(logits, sampling_, random_.uniform(draw)));
    ++live.drawn, ++cost_.new_tokens;
    Continuation& text = texts_[live.text];
    text.ended = std::ranges::find(limits_.stop_tokens, token) != limits_.stop_tokens.end();
    if (!text.ended) {
      text.tokens.push_back(token);
      on_token_(live.text, token);
    }
    const bool on = !text.ended && live.drawn < sampling_.max_tokens;
    if (!on) free_.push_back(live.slot);
    return on;
  }

  ModelWorker& worker_;
  std::span<Continuation> texts_;
  const Sampling& sampling_;
  const GenerationLimits& limits_;
  const OnToken& on_token_;
  RandomStream random_;
  KvCache cache_;
  std::vector<std::int64_t> free_;  // sequences of the cache
  std::vector<Live> live_;
  std::size_t next_ = 0;  // text to begin
  GenerationCost cost_;
};

}  // namespace

std::int64_t sample_token(std::span<const float> logits, const Sampling& sampling, double uniform) {
  ENSURE(!logits.empty(), "no logits to sample from");
  const std::int64_t best = likeliest(logits);
  if (sampling.temperature <= 0) return best;
  const double largest = logits[static_cast<std::size_t>(best)];
  std::vector<std::int64_t> order = candidates(logits, sampling);
  std::vector<double> cumulative;
  double sum = 0;
  for (const std::int64_t i : order) {
    sum += std::exp((logits[static_cast<std::size_t>(i)] - largest) / sampling.temperature);
    cumulative.push_back(sum);
  }
  if (sampling.top_p < 1) {
    const auto enough = std::lower_bound(cumulative.begin(), cumulative.end(), sampling.top_p * sum);
    cumulative.resize(std::min(static_cast<std::size_t>(enough - cumulative.begin()) + 1, order.size()));
  }
  const auto it = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * cumulative.back());
  return order[std::min(static_cast<std::size_t>(it - cumulative.begin()), cumulative.size() - 1)];
}

GenerationCost generate(ModelWorker& worker, std::span<Continuation> texts, const Sampling& sampling,
                        const GenerationLimits& limits, const OnToken& on_token) {
  if (texts.empty()) return {};
  return Generator(worker, texts, sampling, limits, on_token).run();
}

}  // namespace jevons
