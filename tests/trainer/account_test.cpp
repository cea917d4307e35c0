// The account of whole runs that end badly.
#include <filesystem>

#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/cost/account.h"

namespace jevons {
namespace {

using test::tiny_yaml;
using test::train;
using test::write_corpus;

RunAccount account_in(const std::string& run_dir) {
  return account_of(read_ledger(run_dir + "/ledger.jsonl"));
}

}  // namespace

TEST_CASE("a launch that fails before its first step is in the ledger, with its reason", "[account][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run", yaml = tiny_yaml(dir / "corpus", run);
  message_of(ExitCode::kData, [&] { train(2, yaml, {"data.train.0.path=/nowhere/corpus"}); });
  const RunAccount account = account_in(run);
  REQUIRE(account.launches.size() == 1);
  const LaunchAccount& failed = account.launches[0];
  CHECK_FALSE(failed.launch.start);
  REQUIRE(failed.launch.exit);
  CHECK(failed.launch.exit->code == 65);
  CHECK(contains(failed.launch.exit->reason, "/nowhere/corpus"));
  CHECK(failed.device_seconds > 0);
  CHECK(failed.phases[static_cast<std::size_t>(Phase::kInit)] == Approx(failed.device_seconds));
}

TEST_CASE("a launch that an error ends in its steps has an exit record too", "[account][ranks]") {
  const TempDir dir;
  write_corpus(dir / "corpus");
  const std::string run = dir / "run", yaml = tiny_yaml(dir / "corpus", run);
  message_of(ExitCode::kFailure, [&] {
    train(2, yaml,
          {"optimizer.lr=1e30", "optimizer.clip_norm=0", "schedule.warmup_steps=0", "train.max_bad_steps=2"});
  });
  // Started again with better options, it goes on from the beginning.
  CHECK(train(2, yaml, {}) == ExitCode::kOk);
  const RunAccount account = account_in(run);
  REQUIRE(account.launches.size() == 2);
  const LaunchAccount &failed = account.launches[0], &good = account.launches[1];
  REQUIRE(failed.launch.start);
  CHECK(failed.launch.exit->code == 70);
  CHECK(contains(failed.launch.exit->reason, "in a row"));
  CHECK(failed.last_step > 0);
  CHECK(failed.tokens == 0);  // all of its steps were run again
  CHECK(failed.rework > 0);
  CHECK(good.tokens == 8 * 8 * 16);
  CHECK(good.launch.exit->code == 0);
}

}  // namespace jevons
