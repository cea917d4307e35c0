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
          {"Qwen3 235B-A22B", qwen3_235b_a22b(), 235093634560, 22.19, 148.3, 0.01, 0.1}};
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
    for (const Layout& layout : {Layout{}, Layout{.dp = 64, .tp = moe ? 1 : 8, .ep = moe ? 8 : 1}}) {
      INFO(layout.to_string());
      MetaCommunicator world(0, layout.world());
      TestBed bed(world, DType::kBF16, layout, Device::kMeta);
      ModelConfig config = model.config;
      config.seq_len = 1024;
      config.max_logit_bytes = std::int64_t{1} << 40;  // never in chunks
      Model built(bed.store, config);
      bed.store.allocate();
      const MicroBatch batch = random_batch(bed, config, 1, "batch");
      Model::Saved saved;
      forward_loss(bed.ctx, built, batch, saved);
      built.backward(bed.ctx, saved, {});
      const double per_rank = static_cast<double>(config.seq_len) / layout.tp;
      const double products = bed.meter[WorkKind::kGemm].flops + bed.meter[WorkKind::kGroupedGemm].flops;
      CHECK(products ==
            Approx(6 * static_cast<double>(count_model(config).matmul) * per_rank).epsilon(1e-12));
    }
  }
}

}  // namespace jevons::test
