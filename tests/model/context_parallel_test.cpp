// The layout grid (layout_grid.h) with sequences that several ranks share.
#include "tests/model/layout_grid.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

std::vector<GridPoint> context_grid() {
  return {
      {.layout = {.cp = 2}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.cp = 4}, .zero_stage = 0, .micro_batch = 2},
      {.layout = {.dp = 2, .cp = 2}, .zero_stage = 1, .micro_batch = 4},
      {.layout = {.tp = 2, .cp = 2}, .zero_stage = 0, .micro_batch = 2},
      {.layout = {.tp = 2, .cp = 4}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.dp = 2, .tp = 2, .cp = 2}, .zero_stage = 1, .micro_batch = 2},
  };
}

std::vector<GridPoint> expert_grid() {
  std::vector<GridPoint> points = context_grid();
  points.push_back({.layout = {.ep = 2, .cp = 2}, .zero_stage = 1, .micro_batch = 2});
  points.push_back({.layout = {.tp = 2, .ep = 4, .cp = 2}, .zero_stage = 0, .micro_batch = 4});
  points.push_back({.layout = {.dp = 2, .tp = 2, .ep = 8, .cp = 2}, .zero_stage = 1, .micro_batch = 1});
  points.push_back({.layout = {.dp = 2, .ep = 2, .cp = 4}, .zero_stage = 1, .micro_batch = 2});
  return points;
}

void check_with_and_without_documents(const GridModel& model, std::vector<GridPoint> points) {
  for (const bool documents : {false, true}) {
    for (GridPoint& point : points) point.documents = documents;
    check_points(model, points, one_worker(model, 1, documents));
  }
}

// Four stripes of 128 for each of two ranks; eight sequences of 1024 tokens.
ModelConfig long_sequences(ModelConfig config) {
  config.seq_len = 1024;
  config.num_layers = 1;
  config.moe.first_dense_layers = 0;
  return config;
}

}  // namespace

TEST_CASE("context parallel: dense model", "[model][layout][context][ranks]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  ModelConfig config = tiny_dense();
  config.mtp.depth = 2;
  config.tie_embeddings = true;
  check_with_and_without_documents({config, dtype}, context_grid());
}

TEST_CASE("context parallel: experts, losses of the balance, multi-token prediction",
          "[model][layout][context][ranks]") {
  ModelConfig config = tiny_moe();
  config.mtp.depth = 1;
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  check_with_and_without_documents({config}, expert_grid());
}

TEST_CASE("context parallel: latent attention", "[model][layout][context][ranks]") {
  const std::int64_t q_lora_rank = GENERATE(0, 5);
  GridModel model{with_latent(tiny_moe(), q_lora_rank)};
  check_with_and_without_documents(model, expert_grid());
  const StepResult want = one_worker(model, 1);
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    model.config.recompute = recompute;
    check_points(model, {{.layout = {.tp = 2, .ep = 2, .cp = 2}, .zero_stage = 1, .micro_batch = 2}}, want);
  }
}

TEST_CASE("context parallel: losses of the balance that see a micro-batch or the global batch",
          "[model][layout][context][ranks]") {
  ModelConfig config = tiny_moe();
  (GENERATE(true, false) ? config.moe.balance_loss : config.moe.global_balance_loss) = 0.3;
  // The same cut of the batch: all of it at once, or in halves.
  check_points({config},
               {{.layout = {.tp = 2, .ep = 4, .cp = 2}, .zero_stage = 1, .micro_batch = kSequences}},
               one_worker({config}, kSequences));
  if (config.moe.global_balance_loss != 0) return;
  check_points({config}, {{.layout = {.dp = 2, .ep = 2, .cp = 4}, .zero_stage = 0, .micro_batch = 4}},
               one_worker({config}, 4));
}

TEST_CASE("context parallel: sequences of many stripes", "[model][layout][context][ranks]") {
  const GridModel model{long_sequences(GENERATE(tiny_moe(), with_latent(tiny_moe(), 5)))};
  check_with_and_without_documents(model,
                                   {{.layout = {.ep = 2, .cp = 2}, .zero_stage = 1, .micro_batch = 2},
                                    {.layout = {.tp = 2, .cp = 4}, .zero_stage = 1, .micro_batch = 1}});
}

}  // namespace jevons::test
