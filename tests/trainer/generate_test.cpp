// Drawing tokens from logits.
#include <cmath>
#include <vector>

#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/step/generate.h"
#include "trainer/step/inference.h"
#include "trainer/step/run_state.h"

namespace jevons {

TEST_CASE("temperature zero takes the likeliest token, the first of equals", "[generate]") {
  const std::vector<float> logits{0.5f, 2.0f, 2.0f, -1.0f};
  CHECK(sample_token(logits, {.temperature = 0}, 0.99) == 1);
}

TEST_CASE("draws follow the softmax", "[generate]") {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const RandomStream random(3, "test");
  std::vector<int> counts(3);
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(static_cast<std::uint64_t>(i));
    ++counts[static_cast<std::size_t>(sample_token(logits, {.temperature = 1}, u))];
  }
  CHECK(counts[0] == Approx(0.5 * n).margin(300));
  CHECK(counts[1] == Approx(0.3 * n).margin(300));
  CHECK(counts[2] == Approx(0.2 * n).margin(300));
}

TEST_CASE("top-k leaves the rest out and the edges of the draw are safe", "[generate]") {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, 3.0f};
  const Sampling two{.temperature = 1, .top_k = 2};
  CHECK(sample_token(logits, two, 0.0) == 3);
  CHECK(sample_token(logits, two, std::nextafter(1.0, 0.0)) == 2);
  const std::vector<float> extreme{-1e30f, 1e30f, -INFINITY};
  CHECK(sample_token(extreme, {.temperature = 1}, 0.999) == 1);
}

TEST_CASE("top-p keeps the fewest likeliest tokens that reach it", "[generate]") {
  const std::vector<float> logits{std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  const double last = std::nextafter(1.0, 0.0);
  CHECK(sample_token(logits, {.temperature = 1, .top_p = 0.5}, last) == 1);
  CHECK(sample_token(logits, {.temperature = 1, .top_p = 0.51}, last) == 2);
  CHECK(sample_token(logits, {.temperature = 1, .top_p = 0.81}, last) == 0);
  CHECK(sample_token(logits, {.temperature = 1, .top_p = 1e-9}, last) == 1);
  // Of the two that top-k leaves, 0.5 / 0.8 is enough.
  CHECK(sample_token(logits, {.temperature = 1, .top_k = 2, .top_p = 0.62}, last) == 1);
  CHECK(sample_token(logits, {.temperature = 1, .top_k = 2, .top_p = 0.63}, last) == 2);
}

namespace {

// A few steps of a model of 16 positions with 4 experts, then its weights for inference.
struct Trained {
  std::string train() const {
    test::write_corpus(dir / "corpus");
    CHECK(test::train(1, yaml(), {}) == ExitCode::kOk);
    return find_checkpoint(dir / "run");
  }
  std::string yaml() const { return test::tiny_yaml(dir / "corpus", dir / "run"); }

  TempDir dir;
  MetaCommunicator alone{0, 1};
  RunConfig config = parse_run_config(yaml(), "test.yaml", {}, {.world = 1});
  InferenceWorker worker{config, alone, {}, CheckpointReader(train())};
};

std::vector<std::vector<std::int32_t>> continued(InferenceWorker& worker,
                                                 const std::vector<std::vector<std::int32_t>>& prompts,
                                                 const Sampling& sampling, const GenerationLimits& limits) {
  std::vector<Continuation> texts;
  for (const auto& prompt : prompts) texts.push_back({.tokens = prompt});
  std::int64_t told = 0;
  const GenerationCost cost =
      generate(worker, texts, sampling, limits, [&](std::size_t, std::int32_t) { ++told; });
  std::vector<std::vector<std::int32_t>> tokens;
  std::int64_t ended = 0;
  for (const Continuation& text : texts) tokens.push_back(text.tokens), ended += text.ended ? 1 : 0;
  CHECK(cost.new_tokens == told + ended);
  return tokens;
}

}  // namespace

TEST_CASE("greedy text is that of passes over all tokens so far", "[generate]") {
  Trained trained;
  const std::vector<std::int32_t> prompt = {1, 8, 43};
  const auto texts = continued(trained.worker, {prompt}, {.max_tokens = 13, .temperature = 0}, {});

  Worker whole(trained.config, trained.alone, {}, nullptr);
  restore_weights(whole, CheckpointReader(find_checkpoint(trained.dir / "run")));
  std::vector<std::int32_t> expected = prompt;
  while (expected.size() < 16) {
    whole.reset_arenas();
    const Context& ctx = whole.ctx();
    const Tensor tokens = ctx.stash->alloc({16}, DType::kI32);
    std::ranges::fill(tokens.span<std::int32_t>(), 0);
    std::ranges::copy(expected, tokens.ptr<std::int32_t>());
    const std::int64_t last = std::ssize(expected) - 1;
    const auto logits = whole.stages().all().front().logits(ctx, tokens).slice(last, last + 1).span<float>();
    expected.push_back(static_cast<std::int32_t>(sample_token(logits, {.temperature = 0}, 0)));
  }
  CHECK(texts[0] == expected);
}

TEST_CASE("a text beyond the context goes on behind the last half of it", "[generate]") {
  Trained trained;
  const Sampling greedy{.max_tokens = 30, .temperature = 0};
  const std::vector<std::int32_t> long_text = continued(trained.worker, {{1, 8, 43}}, greedy, {})[0];
  REQUIRE(long_text.size() == 33);
  // 16 positions are full with token 16, which therefore follows tokens 8 to 15; 24 tokens later again.
  const std::vector<std::int32_t> half(long_text.begin() + 9, long_text.begin() + 17);
  const std::vector<std::int32_t> behind =
      continued(trained.worker, {half}, {.max_tokens = 9, .temperature = 0}, {})[0];
  CHECK(std::vector<std::int32_t>(long_text.begin() + 9, long_text.begin() + 26) == behind);
  // A prompt longer than the context counts by its end.
  const std::vector<std::int32_t> end(long_text.end() - 16, long_text.end());
  CHECK(continued(trained.worker, {long_text}, {.max_tokens = 1, .temperature = 0}, {})[0].back() ==
        continued(trained.worker, {end}, {.max_tokens = 1, .temperature = 0}, {})[0].back());
}

TEST_CASE("a text does not depend on those beside it, and the seed decides", "[generate]") {
  Trained trained;
  const std::vector<std::vector<std::int32_t>> prompts = {{1}, {2, 13, 4, 23}, {7, 38}, {9}, {5, 28, 15}};
  const Sampling sampling{.max_tokens = 11, .temperature = 1, .top_k = 20, .top_p = 0.9};
  const auto one = continued(trained.worker, prompts, sampling, {.at_once = 1});
  CHECK(one[0].size() == 12);
  CHECK(continued(trained.worker, prompts, sampling, {.at_once = 2}) == one);
  CHECK(continued(trained.worker, prompts, sampling, {.at_once = 8}) == one);
  Sampling other = sampling;
  other.seed = 2;
  CHECK(continued(trained.worker, prompts, other, {.at_once = 8}) != one);
}

TEST_CASE("a stop token ends its text alone and is not part of it", "[generate]") {
  Trained trained;
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 8}, {2, 13}, {3, 18}};
  const Sampling greedy{.max_tokens = 10, .temperature = 0};
  const auto all = continued(trained.worker, prompts, greedy, {});
  const std::vector<std::int32_t> stops = {all[1][4]};
  const auto stopped = continued(trained.worker, prompts, greedy, {.at_once = 2, .stop_tokens = stops});
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto end = std::find(all[i].begin() + 2, all[i].end(), stops[0]);
    CHECK(stopped[i] == std::vector<std::int32_t>(all[i].begin(), end));
  }
}

}  // namespace jevons
