// Checkpoints that cannot be written, and checkpoints that are no longer wanted, in whole runs.
#include <filesystem>
#include <map>
#include <set>

#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/retention.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::tiny_yaml;
using test::train;
using test::write_corpus;

// A run of 8 steps that saves every 2.
struct Run {
  Run() { write_corpus(dir / "corpus"); }
  std::string checkpoints() const { return dir / "run/checkpoints"; }
  std::string step(int n) const { return fmt::format("{}/step-{:08}", checkpoints(), n); }
  bool saved(int n) const { return fs::exists(step(n) + "/manifest.pb"); }
  ExitCode start(int world, std::vector<std::string> overrides) const {
    overrides.emplace_back("checkpoint.interval=2");
    return train(world, tiny_yaml(dir / "corpus", dir / "run"), overrides);
  }
  // What rank 1 writes for this step meets a full disk.
  void fill_disk(int n) const {
    test::once([&] {
      fs::create_directories(step(n));
      fs::create_symlink("/dev/full", step(n) + "/rank-00001.safetensors.tmp");
    });
  }

  TempDir dir;
};

}  // namespace

TEST_CASE("a full disk ends the run, and older checkpoints are intact", "[save][ranks]") {
  const std::string when = GENERATE("true", "false");
  INFO("asynchronous " << when);
  const Run run;
  run.fill_disk(4);
  const std::string message =
      message_of(ExitCode::kFailure, [&] { run.start(2, {"checkpoint.asynchronous=" + when}); });
  CHECK(contains(message, "rank 1: "));
  CHECK(contains(message, "No space left on device"));
  CHECK_FALSE(run.saved(4));
  REQUIRE(run.saved(2));
  CheckpointReader(run.step(2)).verify();
  CHECK(run.start(2, {}) == ExitCode::kOk);  // the disk has space again
  CHECK(run.saved(8));
}

TEST_CASE("checkpoint.on_error=continue: training goes on past a full disk", "[save][ranks]") {
  const Run run;
  run.fill_disk(4);
  CHECK(run.start(2, {"checkpoint.on_error=continue", "checkpoint.keep_last=1"}) == ExitCode::kOk);
  CHECK(run.saved(8));
  CHECK_FALSE(fs::exists(run.step(4)));  // what the failed save left is tidied up by a later one
}

TEST_CASE("checkpoint.on_error=continue: the last checkpoint must be written", "[save][ranks]") {
  const Run run;
  test::once([&] { fs::create_directory(run.dir / "run"); });
  write_bytes(run.checkpoints(), "a vanished mount");
  const std::string message =
      message_of(ExitCode::kFailure, [&] { run.start(2, {"checkpoint.on_error=continue"}); });
  CHECK(contains(message, "cannot create the directory"));
  test::once([&] { fs::remove(run.checkpoints()); });
  CHECK(run.start(2, {}) == ExitCode::kOk);
}

TEST_CASE("a checkpoint written beside training is the one that training waits for", "[save][ranks]") {
  const Run beside, waited;
  CHECK(beside.start(2, {"parallel.ep=2"}) == ExitCode::kOk);
  CHECK(waited.start(2, {"parallel.ep=2", "checkpoint.asynchronous=false"}) == ExitCode::kOk);
  for (int step : {2, 4, 6, 8}) {
    for (const char* file : {"/rank-00000.safetensors", "/rank-00001.safetensors"}) {
      INFO(step << file);
      CHECK(read_bytes(beside.step(step) + file) == read_bytes(waited.step(step) + file));
    }
  }
  // What was saved, and what it cost, stands in the metrics.
  CHECK(contains(read_bytes(beside.dir / "run/metrics.jsonl"), "{\"kind\":\"checkpoint\",\"step\":6,"));
}

TEST_CASE("keep_last, keep_every and keep_best in a run", "[save][ranks]") {
  const Run run;
  CHECK(run.start(2, {"checkpoint.keep_last=1", "checkpoint.keep_every=6"}) == ExitCode::kOk);
  CHECK_FALSE(run.saved(2));
  CHECK_FALSE(run.saved(4));
  CHECK(run.saved(6));
  CHECK(run.saved(8));
  CHECK(validation_of(CheckpointReader(run.step(8)).state()));

  // Which two are best is read from a run that keeps them all.
  const std::vector<std::string> validated = {"train.eval_interval=2", "optimizer.lr=0.3"};
  const Run all;
  CHECK(all.start(1, validated) == ExitCode::kOk);
  std::map<double, int> by_loss;
  for (int step : {2, 4, 6, 8}) {
    by_loss[validation_of(CheckpointReader(all.step(step)).state()).value().loss] = step;
  }
  REQUIRE(by_loss.size() == 4);
  const Run best;
  std::vector<std::string> overrides = validated;
  overrides.insert(overrides.end(), {"checkpoint.keep_last=1", "checkpoint.keep_best=2"});
  CHECK(best.start(1, overrides) == ExitCode::kOk);
  auto it = by_loss.begin();
  const std::set<int> kept = {it->second, std::next(it)->second, 8};
  for (int step : {2, 4, 6, 8}) CHECK(best.saved(step) == kept.contains(step));
}

}  // namespace jevons
