// Budgets of whole runs: they stop with a checkpoint, and do not start what they cannot finish.
#include <filesystem>

#include "kernels/core/error.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/cost/programme.h"
#include "trainer/io/clock.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::tiny_yaml;
using test::train;
using test::write_corpus;

// The message with which a run is refused; "" if it started.
std::string refusal(const std::string& yaml, const std::vector<std::string>& overrides) {
  try {
    train(2, yaml, overrides);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::kUsage);
    return e.what();
  }
  return "";
}

LaunchAccount last_launch(const std::string& run_dir) {
  return account_of(read_ledger(run_dir + "/ledger.jsonl")).launches.back();
}

}  // namespace

TEST_CASE("a run stops at its budget with a checkpoint, and is not started again", "[budget][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run", yaml = tiny_yaml(dir / "corpus", run);
  // 2 device-seconds; the whole run would take thousands.
  const std::vector<std::string> overrides = {"train.steps=1000000", "checkpoint.interval=1000000",
                                              "train.log_interval=1000000", "budget.device_hours=0.00056"};
  CHECK(train(2, yaml, overrides) == ExitCode::kTryAgain);
  const LaunchAccount stopped = last_launch(run);
  CHECK(stopped.launch.exit->code == 75);
  CHECK(contains(stopped.launch.exit->reason, "stopped by the budget: budget.device_hours"));
  CHECK(latest_checkpoint(run + "/checkpoints"));
  CHECK(stopped.last_step > 0);

  CHECK(contains(refusal(yaml, overrides), "the run is not started"));
  const LaunchAccount refused = last_launch(run);  // its seconds are in the account, it made no step
  CHECK_FALSE(refused.launch.start);
  REQUIRE(refused.launch.exit);
  CHECK(refused.launch.exit->code == 2);
  CHECK(contains(refused.launch.exit->reason, "the run is not started"));
}

TEST_CASE("a run is not started when a limit cannot be watched or is over", "[budget][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string yaml = tiny_yaml(dir / "corpus", dir / "run");
  CHECK(contains(refusal(yaml, {"budget.money=5", "cost.price_per_device_hour=-1"}), "budget.money cannot"));
  CHECK(contains(refusal(yaml, {"budget.date=2020-01-01"}),
                 "budget.date: the date, 2020-01-01 00:00:00 UTC, has passed; the run is not started"));
  CHECK_FALSE(fs::exists(dir / "run/config.yaml"));
}

TEST_CASE("what is left must cover the steps to the next checkpoint", "[budget][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run", yaml = tiny_yaml(dir / "corpus", run);
  CHECK(train(2, yaml, {"train.steps=4", "checkpoint.interval=4"}) == ExitCode::kOk);
  const double spent = last_launch(run).device_seconds / 3600;
  // A minute more: enough for 4 steps, not for a hundred million.
  const std::string limit = fmt::format("budget.device_hours={}", spent + 2.0 / 60);
  CHECK(contains(refusal(yaml, {"train.steps=100000000", "checkpoint.interval=0", limit}),
                 "does not cover the 99999996 steps"));
  CHECK(train(2, yaml, {"train.steps=8", "checkpoint.interval=4", "budget.device_hours=1000"}) ==
        ExitCode::kOk);
}

TEST_CASE("a budget of a directory counts every run of the project", "[budget][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const auto yaml = [&](const std::string& name) {
    return tiny_yaml(dir / "corpus", dir / ("runs/" + name));
  };
  CHECK(train(2, yaml("first"), {"cost.project=p"}) == ExitCode::kOk);
  const double spent = last_launch(dir / "runs/first").device_seconds / 3600;
  const std::string limit = fmt::format("budget.device_hours={}", spent / 2);
  CHECK(contains(refusal(yaml("second"), {"cost.project=p", limit, "budget.scope=directory"}),
                 "budget.device_hours"));
  // Another project, or the run alone, has spent nothing yet.
  const std::string more = fmt::format("budget.device_hours={}", spent + 1);
  CHECK(train(2, yaml("third"), {"cost.project=q", more, "budget.scope=directory"}) == ExitCode::kOk);
  CHECK(train(2, yaml("fourth"), {"cost.project=p", more, "budget.scope=run"}) == ExitCode::kOk);
}

}  // namespace jevons
