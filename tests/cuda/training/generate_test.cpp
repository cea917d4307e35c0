// Generation on a GPU against the CPU.
#include <cmath>

#include "tests/cuda/training/named_weights.h"
#include "tests/cuda/training/run.h"
#include "trainer/step/generate.h"
#include "trainer/step/inference.h"

namespace jevons::test {
namespace {

// Logits of the prompts' next tokens, then of two more steps with given tokens.
std::vector<Values> logits_on(DeviceChoice choice, const RunConfig& config) {
  MetaCommunicator alone(0, 1);
  ComputeDevice device(choice, 0, alone);
  InferenceWorker worker(config, device.world(), device.place(), NamedWeights{});
  const Context& ctx = worker.ctx();
  const auto ints = [&](std::vector<std::int32_t> values) {
    const Tensor t = ctx.stash->alloc({std::ssize(values)}, DType::kI32);
    copy_and_wait(ctx.stream, t, {values.data(), t.shape, DType::kI32, Device::kCpu});
    return t;
  };
  std::vector<Values> all;
  const auto keep = [&](Tensor logits) {
    std::vector<bf16> values(static_cast<std::size_t>(logits.numel()));
    worker.finish_passes();
    copy_and_wait(ctx.stream, {values.data(), logits.shape, DType::kBF16, Device::kCpu}, logits);
    Values& wide = all.emplace_back();
    for (const bf16 value : values) wide.push_back(static_cast<float>(value));
    worker.reset_arenas();
  };
  Stage& model = worker.stages().whole();
  KvCache cache = model.make_cache({.sequences = 3, .positions = 12});
  keep(model.prefill(ctx, ints({1, 8, 43, 26, 5}), 2, cache));
  keep(model.prefill(ctx, ints({9, 48}), 0, cache));
  for (std::int32_t i = 0; i < 2; ++i) {
    const CachePlaces places{.slots = ints({2, 0}), .positions = ints({5 + i, 2 + i}), .capacity = 12};
    keep(model.decode(ctx, ints({28 + i, 51}), places, cache));
  }
  return all;
}

}  // namespace

TEST_CASE("generation on a GPU gives the CPU's logits", "[training]") {
  const std::string attention = GENERATE("model.qk_norm=none", "model.qk_norm=head",
                                         "model={num_kv_heads: 0, mla: {kv_lora_rank: 16, qk_nope_head_dim: "
                                         "8, qk_rope_head_dim: 8, v_head_dim: 16}, "
                                         "rope: {layout: interleaved}}");
  RunConfig config = parse_run_config(tiny_yaml("corpus", "run"), "test.yaml",
                                      {"train.precision=bf16", attention}, {.world = 1});
  config.threads = 1;
  const std::vector<Values> got = logits_on(DeviceChoice::kCuda, config),
                            want = logits_on(DeviceChoice::kCpu, config);
  REQUIRE(got.size() == 4);
  for (std::size_t call = 0; call < want.size(); ++call) {
    REQUIRE(got[call].size() == want[call].size());
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < want[call].size(); ++i) {
      largest = std::max<double>(largest, std::abs(want[call][i]));
      difference = std::max<double>(difference, std::abs(got[call][i] - want[call][i]));
    }
    CHECK(largest > 0.1);
    CHECK(difference < 3e-2 * largest);
  }
}

TEST_CASE("texts on a GPU: several at once, each as alone", "[training]") {
  RunConfig config =
      parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", {"train.precision=bf16"}, {.world = 1});
  config.threads = 1;
  MetaCommunicator alone(0, 1);
  ComputeDevice device(DeviceChoice::kCuda, 0, alone);
  InferenceWorker worker(config, device.world(), device.place(), NamedWeights{});
  const auto texts = [&](std::int64_t at_once) {
    std::vector<Continuation> all = {{.tokens = {1}}, {.tokens = {2, 13, 4}}, {.tokens = {7, 38}}};
    generate(worker, all, {.max_tokens = 20, .temperature = 1}, {.at_once = at_once}, [](auto...) {});
    std::vector<std::vector<std::int32_t>> tokens;
    for (const Continuation& text : all) tokens.push_back(text.tokens);
    return tokens;
  };
  const auto one = texts(1);
  CHECK(one[1].size() == 23);  // beyond the 16 positions of the model
  CHECK(texts(1) == one);
}

}  // namespace jevons::test
