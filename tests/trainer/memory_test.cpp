// What a run holds in memory beside what it uses, and what the dry run says of it.
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"

namespace jevons::test {

TEST_CASE("arenas of a dropless run hold at most a tenth more than their peak, and metrics say so",
          "[memory]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::vector<std::string> overrides = {"parallel.ep=2", "train.steps=24", "train.micro_batch_size=4",
                                              "train.log_interval=1"};
  REQUIRE(train(2, tiny_yaml(dir / "corpus", dir / "run"), overrides) == ExitCode::kOk);
  std::ifstream file(dir / "run/metrics.jsonl");
  int steps = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    ++steps;
    const auto held = record["arena_held_bytes"].get<double>(),
               peak = record["arena_peak_bytes"].get<double>();
    CHECK(peak > 0);
    CHECK(held >= peak);
    CHECK(held <= 1.1 * peak + 2 * 4096);  // and a page of each arena
  }
  CHECK(steps == 24);
}

}  // namespace jevons::test
