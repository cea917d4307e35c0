// Stages: a model cut in two in one process gives the bits of the whole, whatever list of actions runs it.
#include "trainer/model/stage.h"

#include <algorithm>
#include <deque>
#include <sstream>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/forward_backward.h"

namespace jevons::test {
namespace {

constexpr std::int64_t kMicroBatches = 4;

// "F0.1 D1.0": as docs/model.md writes actions.
std::vector<Action> actions_of(const std::string& text) {
  std::vector<Action> actions;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const ActionKind kind = word[0] == 'F'   ? ActionKind::kForward
                            : word[0] == 'D' ? ActionKind::kBackward
                            : word[0] == 'B' ? ActionKind::kBackwardInput
                                             : ActionKind::kBackwardWeight;
    const auto dot = word.find('.');
    actions.push_back({kind, std::stoll(word.substr(1, dot - 1)), std::stoll(word.substr(dot + 1))});
  }
  return actions;
}

// Of one stage: F0.0 D0.0 F0.1 D0.1 ...
std::vector<Action> one_after_another() {
  return generate_schedule({.micro_batches = kMicroBatches}).ranks.front();
}

struct Run {
  std::vector<double> losses;  // and what else a pass adds up, of each micro-batch
  NamedValues gradients;
  std::vector<LayerHealth> health;
  std::vector<std::int64_t> units;  // in the order in which their gradients were done
  std::size_t stashes = 0;          // passes at once
};

// Without messages: all stages lie on one rank.
RankProgram program_of(const std::vector<Action>& actions) {
  RankProgram program;
  for (const Action& action : actions)
    program.instructions.push_back({.kind = Instruction::Kind::kRun, .action = action});
  return program;
}

Run run(TestBed& bed, const ModelConfig& config, const std::vector<StageRange>& ranges,
        const std::vector<Action>& actions) {
  std::deque<Stage> stages;
  for (const StageRange& range : ranges) stages.emplace_back(bed.store, config, range);
  bed.place_weights();
  bed.store.require_entry();
  Run result;
  Stashes stashes(Device::kCpu, nullptr);
  PipelineRank rank{.stashes = &stashes};
  for (Stage& stage : stages) rank.stages.push_back({&stage, std::ssize(rank.stages)});
  reset_and_poison(bed.work);
  const MicroBatch all = random_batch(bed, config, 2 * kMicroBatches, "batch", 5);
  const std::int64_t count = num_figures(config);
  const Tensor figures = bed.tensor({kMicroBatches, count}, DType::kF64);
  const std::int64_t rows = 2 * config.seq_len;
  const PassHooks hooks{.read =
                            [&](const Context&, std::int64_t i) {
                              const auto part = [&](Tensor t) { return t.slice(i * rows, (i + 1) * rows); };
                              return MicroBatch{
                                  .tokens = part(all.tokens), .targets = part(all.targets), .doc_start = {}};
                            },
                        .figures = [&](std::int64_t i) { return figures.slice(i, i + 1).reshape({count}); },
                        .unit_done = [&](std::int64_t unit) { result.units.push_back(unit); }};
  const LossScales scales{.token = 0.1,
                          .micro_batch = 0.25,
                          .sequence = 0.125,
                          .position = 1.0 / 64,
                          .mtp = std::vector<double>(static_cast<std::size_t>(config.mtp.depth), 0.05)};
  forward_backward(bed.ctx, rank, program_of(actions), scales, hooks);
  result.stashes = stashes.size();
  result.losses = to_vector(figures);
  result.gradients = gradients_of(bed.store);
  for (Stage& stage : stages) {
    for (LayerHealth& layer : stage.end_step(bed.ctx, BiasUpdate::kApply)) result.health.push_back(layer);
  }
  return result;
}

Run run_alone(const ModelConfig& config, const std::vector<StageRange>& ranges,
              const std::vector<Action>& actions) {
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  return run(bed, config, ranges, actions);
}

ModelConfig three_layers(ModelConfig config) {
  config.num_layers = 3;
  return config;
}

const std::vector<StageRange> kWhole = {{.first_layer = 0, .end_layer = 3}};
const std::vector<StageRange> kCut = {{.first_layer = 0, .end_layer = 2, .head = false},
                                      {.first_layer = 2, .end_layer = 3, .embedding = false}};

// Of two stages and four micro-batches.
const char* const kOneAtATime =
    "F0.0 F1.0 D1.0 D0.0 F0.1 F1.1 D1.1 D0.1 F0.2 F1.2 D1.2 D0.2 F0.3 F1.3 D1.3 D0.3";
const char* const kOneForwardOneBackward =
    "F0.0 F0.1 F1.0 D1.0 D0.0 F0.2 F1.1 D1.1 D0.1 F0.3 F1.2 D1.2 D0.2 F1.3 D1.3 D0.3";
const char* const kAllForward =
    "F0.0 F0.1 F0.2 F0.3 F1.0 F1.1 F1.2 F1.3 D1.0 D1.1 D1.2 D1.3 D0.0 D0.1 D0.2 D0.3";
const char* const kWeightsLater =
    "F0.0 F0.1 F1.0 B1.0 F1.1 B1.1 W1.0 B0.0 F0.2 W0.0 F1.2 B0.1 B1.2 W1.1 F0.3 B0.2 F1.3 B1.3 W1.2 W0.1 "
    "B0.3 "
    "W1.3 W0.2 W0.3";

}  // namespace

TEST_CASE("stages: a model cut in two gives the whole model's bits", "[model][stage]") {
  ModelConfig config = three_layers(GENERATE(tiny_dense(), tiny_moe()));
  config.moe.global_balance_loss = config.moe.router.num_experts > 0 ? 0.2 : 0;
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  const Run want = run_alone(config, kWhole, one_after_another());
  CHECK(want.stashes == 1);
  CHECK(std::ranges::all_of(want.losses, [](double loss) { return loss > 0; }));
  const std::map<std::string, std::size_t> lists = {
      {kOneAtATime, 2}, {kOneForwardOneBackward, 3}, {kAllForward, 8}, {kWeightsLater, 5}};
  for (const auto& [text, stashes] : lists) {
    INFO(text);
    const Run got = run_alone(config, kCut, actions_of(text));
    CHECK(got.stashes == stashes);
    CHECK(got.losses == want.losses);
    CHECK(got.gradients == want.gradients);
    REQUIRE(got.health.size() == want.health.size());
    for (std::size_t i = 0; i < want.health.size(); ++i) {
      CHECK(got.health[i].load == want.health[i].load);
      CHECK(got.health[i].sequence_balance == want.health[i].sequence_balance);
    }
  }
}

TEST_CASE("stages: the whole model in halves gives the same bits", "[model][stage]") {
  ModelConfig config = three_layers(GENERATE(tiny_dense(), tiny_moe()));
  config.recompute = GENERATE(Recompute::kNone, Recompute::kFull);
  config.tie_embeddings = GENERATE(false, true);
  const Run want = run_alone(config, kWhole, one_after_another());
  const Run got =
      run_alone(config, kWhole, actions_of("F0.0 B0.0 W0.0 F0.1 F0.2 B0.1 W0.1 B0.2 W0.2 F0.3 B0.3 W0.3"));
  CHECK(got.losses == want.losses);
  CHECK(got.gradients == want.gradients);
}

TEST_CASE("stages: a head tied to the embedding on another stage of the same rank", "[model][stage]") {
  ModelConfig config = three_layers(tiny_dense());
  config.tie_embeddings = true;
  const Run want = run_alone(config, kWhole, one_after_another());
  const Run got = run_alone(config, kCut, actions_of(kOneAtATime));
  CHECK(got.losses == want.losses);
  CHECK(got.gradients == want.gradients);
}

TEST_CASE("stages: multi-token prediction on the last stage, with the embedding on the same rank",
          "[model][stage]") {
  ModelConfig config = three_layers(GENERATE(tiny_dense(), tiny_moe()));
  config.mtp.depth = 2;
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.tie_embeddings = GENERATE(false, true);
  const Run want = run_alone(config, kWhole, one_after_another());
  const Run cut = run_alone(config, kCut, actions_of(kOneAtATime));
  const Run halves =
      run_alone(config, kWhole, actions_of("F0.0 B0.0 W0.0 F0.1 F0.2 B0.1 W0.1 B0.2 W0.2 F0.3 B0.3 W0.3"));
  for (const Run& got : {cut, halves}) {
    CHECK(got.losses == want.losses);
    CHECK(got.gradients == want.gradients);
    CHECK(got.health.size() == want.health.size());
    CHECK(got.units == want.units);
  }
  // Two depths, head, three blocks.
  CHECK(want.units == std::vector<std::int64_t>{7, 6, 5, 4, 3, 2});
}

TEST_CASE("stages: over two tp ranks, the cut model gives the whole model's bits", "[model][stage][ranks]") {
  ModelConfig config = three_layers(GENERATE(tiny_dense(), tiny_moe()));
  run_ranks(2, [&](Communicator& world) {
    TestBed bed(world, DType::kF32, {.tp = 2}), cut_bed(world, DType::kF32, {.tp = 2});
    const Run want = run(bed, config, kWhole, one_after_another());
    const Run got = run(cut_bed, config, kCut, actions_of(kWeightsLater));
    ENSURE(got.losses == want.losses, "losses differ");
    ENSURE(got.gradients == want.gradients, "gradients differ");
  });
}

TEST_CASE(
    "stages: each unit but the embedding is done once, in its stage's last backward, from the end to the "
    "start",
    "[model][stage]") {
  const ModelConfig config = three_layers(tiny_moe());
  const std::vector<std::int64_t> want = {5, 4, 3, 2};  // head, three blocks
  CHECK(run_alone(config, kWhole, one_after_another()).units == want);
  CHECK(run_alone(config, kCut, actions_of(kOneForwardOneBackward)).units == want);
  CHECK(run_alone(config, kCut, actions_of(kWeightsLater)).units == want);
}

TEST_CASE("stages: weights are read inside their units alone", "[model][stage]") {
  const ModelConfig config = tiny_dense();
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  Model model(bed.store, config);
  bed.place_weights();
  bed.store.require_entry();
  CHECK(evaluated_loss(bed.ctx, model, random_batch(bed, config, 1, "batch")) > 0);
  const ParamId head = bed.store.find("lm_head").value();
  CHECK_THROWS_WITH(bed.store.weight(head), Catch::Matchers::ContainsSubstring("lm_head is read outside"));
  bed.store.enter(bed.store.params()[head].unit);
  CHECK_NOTHROW(bed.store.weight(head));
  bed.store.leave(bed.store.params()[head].unit);
  CHECK_THROWS_AS(bed.store.leave(bed.store.params()[head].unit), Error);
  CHECK_FALSE(bed.store.find("nothing"));
}

TEST_CASE("stages: layers keep their numbers in the model", "[model][stage]") {
  ModelConfig config = three_layers(tiny_moe());
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Stage last(bed.store, config, kCut[1]);
  bed.place_weights();
  CHECK(last.moe_layers() == std::vector<std::int64_t>{2});
  REQUIRE(last.state().size() == 1);
  CHECK(last.state()[0].name == "layers.2.moe.router.bias");
  for (const Param& param : bed.store.params()) {
    const std::string& name = param.spec.name;
    CHECK((name.starts_with("layers.2.") || name == "final_norm" || name == "lm_head"));
  }
}

}  // namespace jevons::test
