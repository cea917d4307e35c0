// QK-clip: one head's queries are made long, steps that move no weight follow, and what then differs is what
// was scaled.
#include "trainer/step/qk_clip.h"

#include <cmath>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/gemm.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/trainer/training_run.h"
#include "tests/trainer/whole_tensors.h"
#include "trainer/step/run_state.h"
#include "trainer/step/train_step.h"

namespace jevons::test {
namespace {

constexpr double kLimit = 20;
constexpr std::int64_t kHeadDim = 8, kPlantedHead = 1;

struct Result {
  std::vector<double> largest;  // of each step
  WholeTensors before, after;   // the first step
};

struct RankResult {
  std::vector<double> largest;
  std::vector<Piece> before, after;
  auto fields() { return std::tie(largest, before, after); }
};

// Rows of the planted head in the whole weight, 60 times as long.
void plant(ParamStore& store, const std::string& name) {
  const std::optional<ParamId> id = store.find(name);
  ENSURE(id, "no {}", name);
  const Param& param = store.params()[*id];
  const Tensor weight = store.weight(*id);
  const std::int64_t cols = param.spec.shape[1];
  for_each_element(param, [&](std::int64_t local, std::int64_t global) {
    if (global / cols / kHeadDim == kPlantedHead) weight.ptr<float>()[local] *= 60;
  });
}

Result clip_on(const Layout& layout, const std::string& planted, std::vector<std::string> options) {
  for (const std::string& option :
       {std::string("optimizer.kind=sgd"), std::string("model.init_std=0.2"),
        std::string("model.moe.router.bias_update_rate=0"), fmt::format("optimizer.qk_clip={}", kLimit),
        fmt::format("parallel.tp={}", layout.tp), fmt::format("parallel.ep={}", layout.ep)})
    options.push_back(option);
  const auto results = run_ranks(layout.world(), [&](Communicator& world) {
    const RunConfig config =
        parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", options, {.world = world.size()});
    Worker worker(config, world, {}, nullptr);
    plant(worker.store(), planted);
    worker.optimizer().adopt_weights(worker.ctx());
    RankResult mine;
    mine.before = test::pieces_of(boxes_to_save(worker));
    HostBatch batch(8 / layout.dp, config.model.seq_len, Device::kCpu);
    const RandomStream random(5, "batch");
    for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
      const std::uint64_t at = static_cast<std::uint64_t>(worker.dp_rank()) * batch.tokens.size() + i;
      batch.tokens[i] = static_cast<std::int32_t>(random.below(2 * at, 64));
      batch.targets[i] = static_cast<std::int32_t>(random.below(2 * at + 1, 64));
    }
    for (int step = 1; step <= 2; ++step) {
      const StepOutcome outcome =
          train_step(worker, batch, {.global_sequences = 8, .optimizer_step = step, .lr = 1e-30});
      mine.largest.push_back(outcome.largest_logit.value());
      if (step == 1) mine.after = test::pieces_of(boxes_to_save(worker));
    }
    return mine;
  });
  Result result{.largest = results[0].largest, .before = {}, .after = {}};
  for (const RankResult& rank : results) place(rank.before, result.before), place(rank.after, result.after);
  return result;
}

// The factor of a weight's row, and that no element of it has another.
double factor_of_row(const Result& result, const std::string& name, std::int64_t row, std::int64_t cols) {
  const auto first = static_cast<std::size_t>(row * cols);
  const std::vector<float>&before = result.before.at(name), &after = result.after.at(name);
  const double factor = static_cast<double>(after[first]) / static_cast<double>(before[first]);
  for (std::size_t i = first; i < first + static_cast<std::size_t>(cols); ++i)
    CHECK(static_cast<double>(after[i]) == Approx(factor * static_cast<double>(before[i])).epsilon(1e-6));
  return factor;
}

void check_limit(const Result& result) {
  CHECK(result.largest[0] > 2 * kLimit);
  // Its largest logit is at the limit now; the log-sum-exp is above that by ln 16 at most.
  CHECK(result.largest[1] > 0.8 * kLimit);
  CHECK(result.largest[1] < kLimit + std::log(16));
}

// Bits where the passes have the same, else to rounding.
void check_layouts(const Result& one, const std::string& planted, const std::vector<std::string>& options) {
  for (const Layout& layout : {Layout{.dp = 2, .ep = 2}, Layout{.dp = 4}, Layout{.tp = 2}}) {
    INFO(layout.to_string());
    const Result other = clip_on(layout, planted, options);
    const bool same = layout.tp == 1 && gemm_backend(DType::kF32).row_invariant;
    CHECK(other.largest[0] == Approx(one.largest[0]).epsilon(same ? 1e-300 : 1e-5));
    for (const auto& [name, values] : one.after) {
      INFO(name);
      const std::vector<float>& got = other.after.at(name);
      REQUIRE(got.size() == values.size());
      if (same) CHECK(got == values);
      double worst = 0;
      for (std::size_t i = 0; i < got.size(); ++i)
        worst = std::max(worst, std::abs(static_cast<double>(got[i] - values[i])));
      CHECK(worst < 1e-4);
    }
  }
}

}  // namespace

TEST_CASE("QK-clip: queries that share a key bear half of the factor with it", "[qk_clip][ranks]") {
  const std::string name = "layers.0.attn.q";
  const Result result = clip_on({}, name, {});
  check_limit(result);
  const double half = std::sqrt(kLimit / result.largest[0]);
  for (const auto& [tensor, values] : result.before) {
    if (tensor != name && tensor != "layers.0.attn.k") CHECK(values == result.after.at(tensor));
  }
  for (std::int64_t row = 0; row < 4 * kHeadDim; ++row)  // heads 0 and 1 have one key head, 2 and 3 another
    CHECK(factor_of_row(result, name, row, 32) == Approx(row < 2 * kHeadDim ? half : 1).epsilon(1e-6));
  for (std::int64_t row = 0; row < 2 * kHeadDim; ++row)
    CHECK(factor_of_row(result, "layers.0.attn.k", row, 32) ==
          Approx(row < kHeadDim ? half : 1).epsilon(1e-6));
  check_layouts(result, name, {});
}

TEST_CASE("QK-clip: the rotated queries of latent attention bear the whole factor", "[qk_clip][ranks]") {
  const std::vector<std::string> options = {"model.num_kv_heads=0",         "model.head_dim=0",
                                            "model.mla.kv_lora_rank=12",    "model.mla.q_lora_rank=20",
                                            "model.mla.qk_nope_head_dim=6", "model.mla.qk_rope_head_dim=2",
                                            "model.mla.v_head_dim=6",       "model.recompute=full"};
  const std::string name = "layers.1.attn.q_b", keys = "layers.1.attn.kv_b";
  const Result result = clip_on({}, name, options);
  check_limit(result);
  const double factor = kLimit / result.largest[0];
  for (const auto& [tensor, values] : result.before) {
    if (tensor != name && tensor != keys) CHECK(values == result.after.at(tensor));
  }
  for (std::int64_t row = 0; row < 4 * kHeadDim; ++row) {
    const double want = row / kHeadDim != kPlantedHead ? 1 : row % kHeadDim < 6 ? std::sqrt(factor) : factor;
    CHECK(factor_of_row(result, name, row, 20) == Approx(want).epsilon(1e-6));
  }
  for (std::int64_t row = 0; row < 4 * 12; ++row) {
    const double want = row / 12 == kPlantedHead && row % 12 < 6 ? std::sqrt(factor) : 1;
    CHECK(factor_of_row(result, keys, row, 12) == Approx(want).epsilon(1e-6));
  }
  check_layouts(result, name, options);
}

TEST_CASE("QK-clip below its limit changes nothing, and a model with QK-norm is refused", "[qk_clip]") {
  const std::vector<std::string> quiet = {"optimizer.qk_clip=100"};
  const auto losses = [](const std::vector<std::string>& overrides) {
    const TempDir dir;
    write_corpus(dir / "corpus");
    CHECK(train(1, tiny_yaml(dir / "corpus", dir / "run"), overrides) == ExitCode::kOk);
    return losses_of(dir / "run");
  };
  CHECK(losses(quiet) == losses({}));
  CHECK_THROWS_WITH(parse_run_config(tiny_yaml("corpus", "run"), "test.yaml",
                                     {"optimizer.qk_clip=100", "model.qk_norm=head"}, {.world = 1}),
                    Catch::Matchers::ContainsSubstring("optimizer.qk_clip scales the weights"));
}

}  // namespace jevons::test
