// Weights from another run's checkpoint: the same model, and a dense model made into experts.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "parallel/meta/meta_communicator.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/step/run_state.h"

namespace jevons {
namespace {

using test::tiny_yaml;
using test::train;
using test::write_corpus;

const std::vector<std::string> kDense = {"model.moe.num_experts=0"};
// Every layer but the first becomes 4 experts, each as large as the dense FFN.
const std::vector<std::string> kUpcycled = {
    "model.moe.expert_hidden_size=48", "model.moe.num_shared_experts=0", "model.moe.router.renormalize=true"};

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Loss of a run's first step, before any weight changed.
double first_loss(const std::string& run_dir) {
  std::ifstream file(run_dir + "/metrics.jsonl");
  std::string line;
  REQUIRE(std::getline(file, line));
  const auto record = nlohmann::json::parse(line);
  REQUIRE(record["step"] == 1);
  return record["loss"].get<double>();
}

// A trained dense model, in <dir>/dense.
struct DenseRun {
  DenseRun() {
    write_corpus(dir / "corpus");
    CHECK(train(2, yaml("dense"), kDense + std::vector<std::string>{"parallel.tp=2"}) == ExitCode::kOk);
  }
  std::string yaml(const std::string& run) const { return tiny_yaml(dir / "corpus", dir / run); }
  double first_loss_from_dense(int world, const std::string& run,
                               const std::vector<std::string>& overrides) const {
    StartOptions start;
    start.init_from = dir / "dense";
    CHECK(train(world, yaml(run), overrides + std::vector<std::string>{"train.steps=1"}, start) ==
          ExitCode::kOk);
    return first_loss(dir / run);
  }
  TempDir dir;
};

// Logits (16, 64) of a fixed sequence under weights from `checkpoint`.
std::vector<float> logits_from(const std::string& yaml, const std::vector<std::string>& overrides,
                               const std::string& checkpoint) {
  MetaCommunicator alone(0, 1);
  RunConfig config = parse_run_config(yaml, "test.yaml", overrides, {.world = 1});
  Worker worker(config, alone, {}, nullptr);
  restore_weights(worker, CheckpointReader(find_checkpoint(checkpoint)));
  const Context& ctx = worker.ctx();
  const Tensor tokens = ctx.stash->alloc({16}, DType::kI32);
  for (std::int32_t i = 0; i < 16; ++i) tokens.ptr<std::int32_t>()[i] = i * 7 % 64;
  const auto logits = worker.stages().all().front().logits(ctx, tokens).span<float>();
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST_CASE("upcycling: the first logits are the dense model's", "[init][ranks]") {
  const DenseRun dense;
  const auto expected = logits_from(dense.yaml("x"), kDense, dense.dir / "dense");
  const auto upcycled = logits_from(dense.yaml("x"), kUpcycled, dense.dir / "dense");
  REQUIRE(expected.size() == upcycled.size());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max<double>(largest, std::abs(expected[i]));
    difference = std::max<double>(difference, std::abs(expected[i] - upcycled[i]));
  }
  CHECK(largest > 1);
  CHECK(difference < 1e-5 * largest);
}

TEST_CASE("upcycling in every layout, and weights for the same model", "[init][ranks]") {
  const DenseRun dense;
  const double expected = dense.first_loss_from_dense(1, "again", kDense);
  CHECK(expected < 3.5);  // untrained: 4.15
  struct Case {
    const char* name;
    int world;
    std::vector<std::string> layout;
  };
  for (const Case& c :
       {Case{"one", 1, {}}, Case{"dp2", 2, {}}, Case{"ep2", 2, {"parallel.ep=2"}},
        Case{"tp2", 2, {"parallel.tp=2"}}, Case{"tp2ep2", 4, {"parallel.tp=2", "parallel.ep=2"}},
        Case{"ep4zero0", 4, {"parallel.ep=4", "parallel.zero_stage=0"}}}) {
    INFO(c.name);
    CHECK(std::abs(dense.first_loss_from_dense(c.world, c.name, kUpcycled + c.layout) - expected) < 2e-6);
  }
}

TEST_CASE("an initialised run that stops is resumed, not initialised again", "[init][ranks]") {
  const DenseRun dense;
  StartOptions start;
  start.init_from = dense.dir / "dense";
  CHECK(train(1, dense.yaml("run"), kUpcycled + std::vector<std::string>{"train.steps=2"}, start) ==
        ExitCode::kOk);
  CHECK(train(1, dense.yaml("run"), kUpcycled + std::vector<std::string>{"train.steps=3"}, start) ==
        ExitCode::kOk);
  CHECK(CheckpointReader(find_checkpoint(dense.dir / "run")).state().step == 3);
}

TEST_CASE("weights of another shape are refused by name", "[init][ranks]") {
  const DenseRun dense;
  StartOptions start;
  start.init_from = dense.dir / "dense";
  const std::string message = message_of(ExitCode::kData, [&] { train(1, dense.yaml("run"), {}, start); });
  CHECK(contains(message, "layers.1."));
}

}  // namespace jevons
