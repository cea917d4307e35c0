// Published models: exact parameter counts and FLOPs per token of the model that would be trained.
#include "tests/support/presets.h"

#include <chrono>
#include <cmath>

#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/test_bed.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/model.h"
#include "trainer/model/model_counts.h"

namespace jevons::test {
namespace {

struct Published {
  const char* name;
  ModelConfig config;
  std::int64_t total;
  double active_billions, gflops_per_token;
  double active_digit, gflops_digit;  // the last digit of the published figure
};

std::vector<Published> published() {
  return {{"Llama-3 8B", llama3_8b(), 8030261248, 8.030, 51.47, 0.001, 0.01},
          {"Llama-3 70B", llama3_70b(), 70553706496, 70.554, 449.2, 0.001, 0.1},
          {"Llama-3 405B", llama3_405b(), 405853388800, 405.853, 2524, 0.001, 1},
          {"Mixtral 8x7B", mixtral_8x7b(), 46702792704, 12.88, 79.71, 0.01, 0.01},
          {"OLMoE 1B-7B", olmoe_1b_7b(), 6919161856, 1.282, 7.88, 0.001, 0.01},
          {"Qwen3 30B-A3B", qwen3_30b_a3b(), 30532122624, 3.353, 23.08, 0.001, 0.01},
          {"Qwen3 235B-A22B", qwen3_235b_a22b(), 235093634560, 22.19, 148.3, 0.01, 0.1},
          {"DeepSeek-V3", deepseek_v3(), 671026419200, 37.55, 250.46, 0.01, 0.01},
          {"DeepSeek-V2", deepseek_v2(), 235741434880, 21.38, 155.31, 0.01, 0.01},
          {"DeepSeek-V2-Lite", deepseek_v2_lite(), 15706484224, 2.66, 16.41, 0.01, 0.01},
          {"Kimi K2", kimi_k2(), 1026408232448, 32.86, 205.47, 0.01, 0.01},
          {"Moonlight 16B-A3B", moonlight_16b_a3b(), 15960110208, 2.91, 18.87, 0.01, 0.01}};
}

}  // namespace

TEST_CASE("presets: parameters and FLOPs as published", "[model]") {
  for (const Published& model : published()) {
    INFO(model.name);
    const auto start = std::chrono::steady_clock::now();
    const ModelCounts count = count_model(model.config);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
    CHECK(count.total == model.total);
    CHECK(std::abs(static_cast<double>(count.active) / 1e9 - model.active_billions) <=
          model.active_digit / 2);
    // The published figures count the norms' weights among the matrix products: up to 0.01 % more.
    const double gflops = count.flops_per_token / 1e9;
    CHECK(std::abs(gflops - model.gflops_per_token) <= model.gflops_digit / 2 + 1e-4 * gflops);
  }
}

// What the kernels are asked for in one micro-batch against the count, on one rank and spread over
// many.
TEST_CASE("presets: a dry run's products are 6 FLOPs per matmul weight and token", "[model]") {
  for (const Published& model : published()) {
    INFO(model.name);
    const bool moe = model.config.moe.router.num_experts > 0;
    std::vector<Layout> layouts = {{}, {.dp = 64, .tp = moe ? 1 : 8, .ep = moe ? 8 : 1}};
    if (model.config.mla.enabled()) layouts.push_back({.dp = 8, .tp = 8, .ep = 8});
    for (const Layout& layout : layouts) {
      INFO(layout.to_string());
      MetaCommunicator world(0, layout.world());
      TestBed bed(world, DType::kBF16, layout, Device::kMeta);
      ModelConfig config = model.config;
      config.seq_len = 1024;
      config.max_logit_bytes = std::int64_t{1} << 40;  // never in chunks
      config.mtp.depth = 1;
      Model built(bed.store, config);
      bed.store.allocate();
      const MicroBatch batch = random_batch(bed, config, 1, "batch");
      Model::Saved saved;
      forward_loss(bed.ctx, built, batch, saved);
      built.backward(bed.ctx, saved, {.mtp = {0.3}});
      const double per_rank = static_cast<double>(config.seq_len) / layout.tp;
      const double products = bed.meter[WorkKind::kGemm].flops + bed.meter[WorkKind::kGroupedGemm].flops;
      const ModelCounts count = count_model(config);
      CHECK(products ==
            Approx(6 * static_cast<double>(count.matmul + count.mtp.matmul) * per_rank).epsilon(1e-12));
    }
  }
}

// DeepSeek-V3's form of it: a whole block, a projection of twice the width, three norms, and the head again.
TEST_CASE("presets: multi-token prediction is counted apart", "[model]") {
  for (ModelConfig config : {llama3_8b(), qwen3_30b_a3b()}) {
    const ModelCounts without = count_model(config);
    config.mtp.depth = 2;
    const ModelCounts count = count_model(config);
    CHECK(count.total == without.total);
    CHECK(count.active == without.active);
    CHECK(count.matmul == without.matmul);
    CHECK(count.flops_per_token == without.flops_per_token);
    CHECK(without.mtp.total == 0);
    CHECK(without.mtp.flops_per_token == 0);

    // The blocks of these models are alike: a model with one layer more has one block more.
    config.mtp.depth = 0;
    config.num_layers += 1;
    const ModelCounts deeper = count_model(config);
    const std::int64_t d = config.hidden_size;
    CHECK(count.mtp.total == 2 * (deeper.total - without.total + 2 * d * d + 3 * d));
    CHECK(count.mtp.active == 2 * (deeper.active - without.active + 2 * d * d + 3 * d));
    CHECK(count.mtp.matmul == 2 * (deeper.matmul - without.matmul + 2 * d * d + config.vocab_size * d));
    CHECK(count.mtp.flops_per_token ==
          Approx(2 * (deeper.flops_per_token - without.flops_per_token +
                      6.0 * static_cast<double>(2 * d * d + config.vocab_size * d))));
  }
}

}  // namespace jevons::test
