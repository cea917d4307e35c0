// Multi-token prediction: gradients, what a row may know, and what is measured of it. Layouts:
// layout_grid_test; halves and stages: stage_test; another program's figures: tests/oracle.
#include "trainer/model/mtp.h"

#include <algorithm>
#include <functional>

#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

ModelConfig with_depth(ModelConfig config, std::int64_t depth) {
  config.mtp.depth = depth;
  return config;
}

// Two sequences with masked targets and a second document in each.
MicroBatch batch_of(TestBed& bed, const ModelConfig& config) {
  MicroBatch batch = random_batch(bed, config, 2, "batch", 5);
  batch.doc_start = sequences_of(bed, 2, config.seq_len, 3).doc_start;
  return batch;
}

std::vector<double> figures_of(ModelConfig config, const std::function<void(MicroBatch&)>& change) {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  MicroBatch batch = batch_of(bed, config);
  change(batch);
  return evaluated_figures(bed.ctx, model, batch);
}

}  // namespace

TEST_CASE("multi-token prediction: gradients", "[model][mtp]") {
  ModelConfig config = with_depth(GENERATE(tiny_dense(), tiny_moe()), 2);
  config.moe.sequence_balance_loss = config.moe.z_loss = 0;  // model_test has those
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.tie_embeddings = GENERATE(false, true);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = batch_of(bed, config);
  const LossScales scales{.token = 0.2, .mtp = {0.15, 0.3}};
  Model::Saved saved;
  GradProblem problem;
  problem.loss = [&](const Context& ctx) {
    const std::vector<double> figures = forward_figures(ctx, model, batch, saved);
    return scales.token * figures[0] + scales.mtp[0] * figures[1] + scales.mtp[1] * figures[2];
  };
  problem.backward = [&](const Context& ctx) {
    model.backward(ctx, saved, scales);
    return std::vector<Tensor>{};
  };
  check_gradients(bed, problem, {.probes = 5});
}

TEST_CASE("multi-token prediction: logits in chunks give the same gradients", "[model][mtp]") {
  ModelConfig config = with_depth(tiny_dense(), 2);
  const auto run = [&](std::int64_t max_logit_bytes) {
    config.max_logit_bytes = max_logit_bytes;
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    Model model(bed.store, config);
    bed.place_weights();
    Model::Saved saved;
    std::vector<double> all = forward_figures(bed.ctx, model, batch_of(bed, config), saved);
    model.backward(bed.ctx, saved, {.token = 0.2, .mtp = {0.15, 0.3}});
    for (const ParamGroup& group : bed.store.groups()) {
      const std::vector<double> gradients = to_vector(group.grads);
      all.insert(all.end(), gradients.begin(), gradients.end());
    }
    return all;
  };
  expect_close("figures and gradients", run(3 * 20 * 8), run(std::int64_t{1} << 30), 1e-13);
}

// Depth k predicts the target of row t + k + 1 at row t, from the tokens up to that row.
TEST_CASE("multi-token prediction: a row knows the tokens up to the one before its target", "[model][mtp]") {
  const ModelConfig config = with_depth(GENERATE(tiny_dense(), tiny_moe()), 2);
  constexpr std::int64_t kTarget = 6, kSecondDocument = 3;  // of the first sequence
  const auto changed = [&](std::int64_t row) {
    return figures_of(config, [&](MicroBatch& batch) {
      for (std::int32_t& target : batch.targets.span<std::int32_t>()) target = -1;
      batch.targets.ptr<std::int32_t>()[kTarget] = 4;
      if (row >= 0) batch.tokens.ptr<std::int32_t>()[row] = 19 - batch.tokens.ptr<std::int32_t>()[row];
    });
  };
  const std::vector<double> want = changed(-1);
  for (std::size_t figure = 0; figure < 3; ++figure) {
    CHECK(want[figure] > 0);
    for (std::int64_t row = 0; row < 2 * config.seq_len; ++row) {
      INFO("figure " << figure << ", token " << row);
      const bool knows = row >= kSecondDocument && row <= kTarget;
      CHECK((changed(row)[figure] != want[figure]) == knows);
    }
  }
}

TEST_CASE("multi-token prediction: no target across a border", "[model][mtp]") {
  const ModelConfig config = with_depth(tiny_dense(), 2);
  // The second document begins at row 3: its first token is nobody's target at a row before, its second only
  // the model's, its third that of the model and depth 0.
  for (std::int64_t row = 2; row < 6; ++row) {
    const std::vector<double> figures = figures_of(config, [&](MicroBatch& batch) {
      for (std::int32_t& target : batch.targets.span<std::int32_t>()) target = -1;
      batch.targets.ptr<std::int32_t>()[row] = row == 2 ? -1 : 7;  // the loader masks it there
    });
    CHECK((figures[0] > 0) == (row >= 3));
    CHECK((figures[1] > 0) == (row >= 4));
    CHECK((figures[2] > 0) == (row >= 5));
  }
}

TEST_CASE("multi-token prediction: the model's own loss is what it is without", "[model][mtp]") {
  const ModelConfig config = GENERATE(tiny_dense(), tiny_moe());
  const auto nothing = [](MicroBatch&) {};
  CHECK(figures_of(config, nothing)[0] == figures_of(with_depth(config, 2), nothing)[0]);
}

// The choice of a head is the target with the least loss, so it can be had from losses alone.
TEST_CASE("multi-token prediction: accepted tokens are those that the model chooses a row later",
          "[model][mtp][ranks]") {
  const ModelConfig config = with_depth(GENERATE(tiny_dense(), tiny_moe()), 2);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  MicroBatch batch = batch_of(bed, config);
  const Tensor targets = bed.tensor(batch.targets.shape, DType::kI32);
  copy_and_wait(nullptr, targets, batch.targets);
  std::int64_t accepted = 0, rows = 0;
  for (std::int64_t row = 0; row + 1 < targets.numel(); ++row) {
    const std::int64_t position = row % config.seq_len;
    const bool border = position + 1 == config.seq_len || position == 2;
    if (border || targets.ptr<std::int32_t>()[row + 1] < 0) continue;
    std::vector<double> of_model, of_depth;
    for (std::int32_t token = 0; token < config.vocab_size; ++token) {
      for (std::int32_t& target : batch.targets.span<std::int32_t>()) target = -1;
      batch.targets.ptr<std::int32_t>()[row + 1] = token;
      const std::vector<double> figures = evaluated_figures(bed.ctx, model, batch);
      of_model.push_back(figures[0]), of_depth.push_back(figures[1]);
    }
    const auto choice = [](const std::vector<double>& losses) {
      return std::ranges::min_element(losses) - losses.begin();
    };
    accepted += choice(of_model) == choice(of_depth) ? 1 : 0, ++rows;
  }
  batch.targets = targets;
  CHECK(evaluated_figures(bed.ctx, model, batch)[3] == static_cast<double>(accepted));
  CHECK(count_targets_of_depth(batch, config, 0) == rows);
  // A head that always says the same agrees with itself.
  const ParamId head = bed.store.find("lm_head").value();
  for (double& w : bed.store.weight(head).span<double>()) w = 0;
  CHECK(evaluated_figures(bed.ctx, model, batch)[3] == static_cast<double>(rows));

  run_ranks(2, [&](Communicator& two) {
    TestBed half(two, DType::kF64, {.tp = 2});
    Model split(half.store, config);
    half.place_weights();
    const Tensor sum = half.tensor({1}, DType::kF64);
    *sum.ptr<double>() = evaluated_figures(half.ctx, split, batch_of(half, config))[3];
    half.mesh.stage().all_reduce(sum).wait();
    ENSURE(*sum.ptr<double>() == static_cast<double>(accepted), "{} accepted, of one worker {}",
           *sum.ptr<double>(), accepted);
  });
}

}  // namespace jevons::test
