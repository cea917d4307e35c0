// Runs that go back to an older checkpoint, change their batch, or are started again when they are done.
#include <filesystem>

#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/cost/account.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// A run of tiny_yaml: 8 sequences of 16 tokens a step, saved every 5.
struct Run {
  TempDir dir;
  std::string path = dir / "run";

  Run() { test::write_corpus(dir / "corpus"); }
  std::string step(std::int64_t step) const { return path + fmt::format("/checkpoints/step-{:08}", step); }
  void train(std::vector<std::string> overrides, const std::string& resume = "auto", int workers = 1) const {
    overrides.insert(overrides.begin(), "checkpoint.interval=5");
    CHECK(test::train(workers, test::tiny_yaml(dir / "corpus", path), overrides, {.resume = resume}) ==
          ExitCode::kOk);
  }
  std::vector<std::int64_t> logged(const std::string& kind) const {
    std::vector<std::int64_t> steps;
    std::ifstream file(path + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["kind"] == kind) steps.push_back(json["step"]);
    }
    return steps;
  }
  std::int64_t tokens() const { return account_of(read_ledger(path + "/ledger.jsonl")).total.tokens; }
};

std::vector<std::int64_t> up_to(std::int64_t last) {
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 1; step <= last; ++step) steps.push_back(step);
  return steps;
}

}  // namespace

TEST_CASE("a run that went back goes on from what it made last, and its records with it",
          "[trainer][ranks]") {
  const Run run;
  run.train({"train.steps=20"});
  run.train({"train.steps=13"}, run.step(10), 2);
  CHECK(run.logged("step") == up_to(13));
  run.train({"train.steps=25", "checkpoint.keep_last=2"}, "auto", 2);
  CHECK(run.logged("step") == up_to(25));
  CHECK(run.tokens() == 25 * 128);
  const RunAccount account = account_of(read_ledger(run.path + "/ledger.jsonl"));
  REQUIRE(account.launches.size() == 3);
  CHECK(account.launches[0].rework > 0);
  CHECK(account.launches[2].launch.start->step == 13);
  // 15 and 20 were made anew; of the others none stays for ever.
  CHECK(steps_in(run.path + "/checkpoints").size() == 2);
  CHECK(latest_checkpoint(run.path + "/checkpoints") == run.step(25));
}

TEST_CASE("going back is remembered by a run that saves nothing after it", "[trainer]") {
  const Run run;
  run.train({"train.steps=10"});
  run.train({"train.steps=7", "checkpoint.final_save=false"}, run.step(5));
  run.train({"train.steps=8"});
  CHECK(account_of(read_ledger(run.path + "/ledger.jsonl")).launches.back().launch.start->step == 5);
  CHECK(run.logged("step") == up_to(8));
  CHECK(run.tokens() == 8 * 128);
  // And forth again, to what was left behind: no hole.
  run.train({"train.steps=12"}, run.step(10));
  CHECK(run.logged("step") == up_to(12));
  CHECK(run.tokens() == 12 * 128);
}

TEST_CASE("a run that begins anew in a used directory", "[trainer]") {
  const Run run;
  run.train({"train.steps=10"});
  run.train({"train.steps=3"}, "never");
  CHECK(run.logged("step") == up_to(3));
  CHECK(latest_checkpoint(run.path + "/checkpoints") == run.step(3));
  run.train({"train.steps=6"});
  CHECK(run.logged("step") == up_to(6));
  CHECK(run.tokens() == 6 * 128);
}

TEST_CASE("tokens that are trained count when the batch changes", "[trainer]") {
  const Run run;
  run.train({"train.steps=10", "train.global_batch_size=4"});
  run.train({"train.steps=0", "train.tokens=1280", "train.global_batch_size=8"});
  CHECK(run.logged("step") == up_to(15));
  CHECK(run.tokens() == 1280);
  const LedgerContents ledger = read_ledger(run.path + "/ledger.jsonl");
  CHECK(ledger.launches.back().info.total_steps == 15);
  CHECK(CheckpointReader(run.step(15)).state().consumed_tokens == 1280);
}

TEST_CASE("a finished run that is started again is not validated again", "[trainer]") {
  const Run run;
  for (int times = 0; times < 3; ++times) run.train({"train.steps=5"});
  CHECK(run.logged("validation") == std::vector<std::int64_t>{5});
  run.train({"train.steps=5", "train.eval_samples=3"});  // on other samples it is
  CHECK(run.logged("validation") == std::vector<std::int64_t>{5, 5});
}

TEST_CASE("the best checkpoints are those of today's validation data", "[trainer]") {
  const Run run;
  const std::vector<std::string> keep = {"train.eval_interval=5", "checkpoint.keep_last=1",
                                         "checkpoint.keep_best=1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), keep.begin(), keep.end());
    return more;
  };
  run.train(with({"train.steps=5"}));
  // A loss on other data that nothing reaches again.
  const auto validation = validation_of(CheckpointReader(run.step(5)).state());
  REQUIRE(validation);
  CHECK(validation->data.size() == 16);
  run.train(with({"train.steps=10", "train.eval_samples=2", "optimizer.lr=1e-9"}));
  run.train(with({"train.steps=15", "train.eval_samples=2", "optimizer.lr=1e-9"}));
  CHECK_FALSE(fs::exists(run.step(5)));
}

}  // namespace jevons
