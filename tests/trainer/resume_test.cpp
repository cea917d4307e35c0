// Stop and resume on the same layout, bit for bit; other layouts: resume_matrix_test.cpp.
#include <filesystem>
#include <map>

#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::losses_of;
using test::tiny_yaml;
using test::train;
using test::write_corpus;

// Contents of every file of a checkpoint, by name.
std::map<std::string, std::string> files_of(const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    files[entry.path().filename().string()] = read_bytes(entry.path().string());
  }
  return files;
}

struct Case {
  const char* name;
  int world;
  std::vector<std::string> layout;
};

}  // namespace

TEST_CASE("a run without a final save keeps what it saved on the way, and no more", "[resume][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run";
  CHECK(train(2, tiny_yaml(dir / "corpus", run), {"checkpoint.interval=7", "checkpoint.final_save=false"}) ==
        ExitCode::kOk);
  CHECK(fs::exists(run + "/checkpoints/step-00000007/manifest.pb"));
  CHECK_FALSE(fs::exists(run + "/checkpoints/step-00000008"));
}

TEST_CASE("a resumed run repeats the straight one bit for bit", "[resume][ranks]") {
  const std::vector<Case> cases{
      {"one worker", 1, {}},
      {"dp2 ep2", 2, {"parallel.ep=2"}},
      {"tp2", 2, {"parallel.tp=2"}},
      {"loss spikes are skipped",
       2,
       {"train.spike_zscore=0.5", "train.spike_window=3", "train.max_bad_steps=8"}},
      {"bf16, dp2 ep2, zero 0", 2, {"parallel.ep=2", "train.precision=bf16", "parallel.zero_stage=0"}},
      {"dp2 tp2 ep4, two micro-batches at once",
       4,
       {"parallel.tp=2", "parallel.ep=4", "train.micro_batch_size=2"}},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const TempDir dir;
    write_corpus(dir / "corpus");
    const std::string straight = dir / "straight", stopped = dir / "stopped";
    CHECK(train(c.world, tiny_yaml(dir / "corpus", straight), c.layout) == ExitCode::kOk);

    // The same run, cut in two: the first part ends after 3 of 8 steps because it is told of 8 but saved
    // at 3.
    std::vector<std::string> first = c.layout;
    first.push_back("checkpoint.interval=3");
    CHECK(train(c.world, tiny_yaml(dir / "corpus", stopped), first) == ExitCode::kOk);
    const auto whole = losses_of(stopped);
    for (const char* later : {"/checkpoints/step-00000006", "/checkpoints/step-00000008"}) {
      test::once([&] { ENSURE(fs::remove_all(stopped + later) > 0, "no {}", later); });
    }
    CHECK(train(c.world, tiny_yaml(dir / "corpus", stopped), c.layout) == ExitCode::kOk);

    CHECK(losses_of(straight).size() == 8);
    CHECK(losses_of(straight) == whole);
    CHECK(losses_of(straight) == losses_of(stopped));
    auto a = files_of(straight + "/checkpoints/step-00000008");
    auto b = files_of(stopped + "/checkpoints/step-00000008");
    a.erase("manifest.pb"), b.erase("manifest.pb");  // its passport names the run directory's settings
    CHECK(a.size() == static_cast<std::size_t>(c.world));
    CHECK(a == b);
  }
}

TEST_CASE("a finished run started again does nothing, and another model is refused", "[resume]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run", yaml = tiny_yaml(dir / "corpus", run);
  CHECK(train(1, yaml, {}) == ExitCode::kOk);
  CHECK(train(1, yaml, {}) == ExitCode::kOk);
  CHECK(losses_of(run).size() == 8);
  const std::string message = message_of(ExitCode::kUsage, [&] {
    train(1, yaml, {"model.moe.expert_hidden_size=32", "train.steps=9"});
  });
  CHECK(contains(message, "not the configured one"));
}

TEST_CASE("steps that are not finite are skipped, then end the run", "[resume][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string message = message_of(ExitCode::kFailure, [&] {
    train(2, tiny_yaml(dir / "corpus", dir / "run"),
          {"optimizer.lr=1e30", "optimizer.clip_norm=0", "schedule.warmup_steps=0", "train.max_bad_steps=2"});
  });
  CHECK(contains(message, "2 steps in a row"));
}

}  // namespace jevons
