#include "trainer/model/rope.h"

#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {

TEST_CASE("rope: the angle of a pair is its frequency times the position", "[model]") {
  const DType compute = GENERATE(DType::kF32, DType::kBF16, DType::kF64);
  const RopeFrequencies frequencies{.per_pair = {1, 0.5, 0.001}, .amplitude = 1.25};
  const RopeTable rope(Device::kCpu, compute, 40, frequencies);
  REQUIRE(rope.cos().shape == Shape{40, 3});
  REQUIRE(rope.sin().dtype == accumulator_of(compute));
  for (std::int64_t i = 0; i < 40 * 3; ++i) {
    const double angle = static_cast<double>(i / 3) * frequencies.per_pair[static_cast<std::size_t>(i % 3)];
    CHECK(element(rope.cos(), i) == Approx(1.25 * std::cos(angle)).margin(1e-7));
    CHECK(element(rope.sin(), i) == Approx(1.25 * std::sin(angle)).margin(1e-7));
  }
}

TEST_CASE("rope: frequencies fall from 1 by powers of theta", "[model]") {
  ModelConfig config = tiny_dense();
  config.head_dim = 8, config.rope.theta = 10000;
  const RopeFrequencies frequencies = rope_frequencies(config);
  CHECK(frequencies.amplitude == 1);
  REQUIRE(frequencies.per_pair.size() == 4);
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(frequencies.per_pair[i] == Approx(std::pow(10, -1.0 * static_cast<double>(i))));
}

namespace {

ModelConfig model_of(std::int64_t dim, const RopeConfig& rope) {
  ModelConfig config = tiny_dense();
  config.head_dim = dim, config.rope = rope;
  return config;
}

struct Anchor {
  std::size_t pair;
  double frequency;
};

// The anchors were computed by transformers 5.24 in fp32, whose powers of theta are off by up to 1e-7 or so.
void check_frequencies(const ModelConfig& config, double amplitude, const std::vector<Anchor>& anchors) {
  const RopeFrequencies frequencies = rope_frequencies(config);
  CHECK(std::ssize(frequencies.per_pair) == config.rope_dim() / 2);
  CHECK(frequencies.amplitude == Approx(amplitude).epsilon(1e-9));
  for (const Anchor& anchor : anchors) {
    INFO("pair " << anchor.pair);
    CHECK(frequencies.per_pair[anchor.pair] == Approx(anchor.frequency).epsilon(1e-6));
  }
}

RopeConfig deepseek_rope(double mscale) {
  return {.theta = 1e4,
          .layout = RopeLayout::kInterleaved,
          .scaling = RopeScaling::kYarn,
          .factor = 40,
          .original_seq_len = 4096,
          .mscale = mscale,
          .mscale_all_dim = mscale};
}

ModelConfig deepseek(double mscale) {
  ModelConfig config = model_of(192, deepseek_rope(mscale));
  config.mla = {.kv_lora_rank = 512, .qk_nope_head_dim = 128, .qk_rope_head_dim = 64, .v_head_dim = 128};
  return config;
}

}  // namespace

TEST_CASE("rope: YaRN as DeepSeek-V3 and Qwen3 have it", "[model]") {
  check_frequencies(deepseek(1), 1,
                    {{0, 1},
                     {9, 7.49894157e-02},
                     {10, 5.62341288e-02},
                     {11, 3.90069261e-02},
                     {16, 5.50000044e-03},
                     {22, 1.77827940e-04},
                     {23, 3.33380340e-05},
                     {31, 3.33380353e-06}});
  const RopeConfig qwen3{.theta = 1e6, .scaling = RopeScaling::kYarn, .factor = 4, .original_seq_len = 32768};
  check_frequencies(model_of(128, qwen3), 1.138629436,
                    {{20, 1.33352149e-02}, {40, 4.44569851e-05}, {63, 3.10234441e-07}});
}

TEST_CASE("rope: Llama 3.1's scaling", "[model]") {
  const RopeConfig rope{.theta = 5e5, .scaling = RopeScaling::kLlama3, .factor = 8, .original_seq_len = 8192};
  check_frequencies(model_of(128, rope), 1,
                    {{28, 3.21144611e-03},
                     {29, 2.16657063e-03},
                     {32, 5.24846022e-04},
                     {35, 9.55621217e-05},
                     {36, 7.78465546e-05},
                     {63, 3.06892588e-07}});
}

TEST_CASE("rope: linear scaling divides, dynamic leaves its original context alone", "[model]") {
  const RopeFrequencies plain = rope_frequencies(model_of(16, {}));
  const auto scaled = [](RopeScaling scaling) {
    return rope_frequencies(model_of(16, {.scaling = scaling, .factor = 4, .original_seq_len = 8}));
  };
  CHECK(scaled(RopeScaling::kDynamic).per_pair == plain.per_pair);
  const RopeFrequencies linear = scaled(RopeScaling::kLinear);
  for (std::size_t i = 0; i < plain.per_pair.size(); ++i) CHECK(linear.per_pair[i] == plain.per_pair[i] / 4);
}

TEST_CASE("rope: YaRN's options", "[model]") {
  RopeConfig rope = deepseek_rope(0.707);
  const auto of = [&] { return rope_frequencies(model_of(64, rope)); };
  CHECK(of().amplitude == 1);
  rope.mscale = 1;  // (0.1 ln 40 + 1) / (0.0707 ln 40 + 1)
  CHECK(of().amplitude == Approx(1.36888794541 / 1.26080377741).epsilon(1e-9));
  rope.mscale_all_dim = 0;
  CHECK(of().amplitude == Approx(1.36888794541).epsilon(1e-9));
  rope.attention_factor = 0.9;
  CHECK(of().amplitude == 0.9);
  // 64 ln(4096 / (2 pi 32)) / (2 ln 1e4) = 10.4722 and, for one turn, 22.5134: rounded or not.
  CHECK(of().per_pair[10] == Approx(std::pow(1e4, -10 / 32.0)));
  rope.truncate = false;
  CHECK(of().per_pair[10] == Approx(std::pow(1e4, -10 / 32.0)));
  const double low = 10.472240810318025, high = 22.513440636877274, kept = 1 - (11 - low) / (high - low);
  CHECK(of().per_pair[11] == Approx(std::pow(1e4, -11 / 32.0) * (kept + (1 - kept) / 40)).epsilon(1e-7));
  CHECK(of().per_pair[23] == Approx(std::pow(1e4, -23 / 32.0) / 40));
}

TEST_CASE("rope: the scale of the scores", "[model]") {
  CHECK(softmax_scale(model_of(128, {})) == 1 / std::sqrt(128.0));
  CHECK(softmax_scale(deepseek(1)) == Approx(0.13523378).epsilon(1e-7));
  CHECK(softmax_scale(deepseek(0.707)) == Approx(0.11472139).epsilon(1e-7));
  CHECK(softmax_scale(deepseek(0)) == 1 / std::sqrt(192.0));
  // Not without MLA: there cosines and sines carry all of it.
  CHECK(softmax_scale(model_of(192, deepseek_rope(1))) == 1 / std::sqrt(192.0));
}

}  // namespace jevons::test
