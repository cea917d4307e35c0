// Jobs that hang or lose a rank: who is named, what the exit code is, and that no process is left behind.
#include <filesystem>

#include "tests/data/temp_files.h"
#include "tests/e2e/endless_job.h"

namespace jevons {
namespace {

using test::all_gone;
using test::EndlessJob;
using test::Ran;
using test::shell;

Ran run_ranks(const TempDir& dir, const std::string& what) {
  return shell(test::job_of(3, fmt::format("{} {} {}", JEVONS_WATCHDOG_RANKS, dir / "watchdog", what)), 60);
}

}  // namespace

TEST_CASE("a rank that stops is named, and the job ends", "[e2e][watchdog]") {
  const EndlessJob job(3, "parallel.ep=1 watchdog.stall_seconds=4");
  const Ran ran = job.start_and("kill_rank STOP 1");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "Missing, gave no sign of life: rank 1 (process "));
  CHECK(contains(ran.output, "inside "));  // the collective in which the others wait, of whichever group
  CHECK(all_gone("jevons", job.dir / "run.yaml"));
  CHECK(contains(read_bytes(job.dir / "run/watchdog/summary.txt"), "rank 1"));
  CHECK(contains(read_bytes(job.dir / "run/logs/rank-2.log"), "watchdog: no progress for"));
}

TEST_CASE("a stage that stops is named by those that wait for it", "[e2e][watchdog]") {
  // Steps of many micro-batches: wherever it is stopped, it is in one of them.
  const EndlessJob job(2,
                       "parallel.pp=2 parallel.ep=1 watchdog.stall_seconds=4 train.global_batch_size=512 "
                       "train.micro_batch_size=1");
  const Ran ran = job.start_and("kill_rank STOP 0");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "Missing, gave no sign of life: rank 0 (process "));
  CHECK(contains(ran.output, ", pipeline action "));
  CHECK(contains(ran.output, "over pp"));
  CHECK(all_gone("jevons", job.dir / "run.yaml"));
}

TEST_CASE("a rank that is killed ends the job, and the others say where they were", "[e2e][watchdog]") {
  const EndlessJob job(3, "parallel.ep=1 watchdog.stall_seconds=4");
  const Ran ran = job.start_and("kill_rank KILL 1");
  INFO(ran.output);
  CHECK(ran.code == 137);
  CHECK(contains(ran.output, "rank 1 with PID"));
  CHECK(all_gone("jevons", job.dir / "run.yaml"));
  const std::string told =
      read_bytes(job.dir / "run/logs/rank-0.log") + read_bytes(job.dir / "run/logs/rank-2.log");
  CHECK(contains(told, "told to stop; it was here: "));
}

TEST_CASE("a job that is stopped as a whole and continued goes on", "[e2e][watchdog]") {
  const EndlessJob job(3, "parallel.ep=1 watchdog.stall_seconds=4");
  const Ran ran =
      job.start_and("kill_rank STOP [0-2]; sleep 8; kill_rank CONT [0-2]; sleep 3; kill -USR1 $!");
  INFO(ran.output);
  CHECK(ran.code == 75);
  CHECK_FALSE(std::filesystem::exists(job.dir / "run/watchdog"));
}

TEST_CASE("a rank that leaves a collective out is named", "[e2e][watchdog]") {
  const TempDir dir;
  const Ran ran = run_ranks(dir, "skip");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "no progress for"));
  CHECK(contains(ran.output, "different collectives: rank 1 in all_reduce"));
  CHECK(all_gone("watchdog_ranks", dir / "watchdog"));
}

TEST_CASE("what an earlier launch reported is no alarm", "[e2e][watchdog]") {
  const TempDir dir;
  const Ran ran = run_ranks(dir, "stale");
  INFO(ran.output);
  CHECK(ran.code == 0);
}

TEST_CASE("a job whose files hang ends too", "[e2e][watchdog]") {
  const TempDir dir;
  const Ran ran = run_ranks(dir, "mute");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "no progress for"));
  CHECK(all_gone("watchdog_ranks", dir / "watchdog"));
}

TEST_CASE("a step that takes too long ends the job, a long save does not", "[e2e][watchdog]") {
  const TempDir dir;
  const Ran step = run_ranks(dir, "step");
  INFO(step.output);
  CHECK(step.code == 70);
  CHECK(contains(step.output, "a step runs for"));
  CHECK(contains(step.output, "Late, are in no collective: ranks 0-2."));
  const Ran save = run_ranks(dir, "save");
  INFO(save.output);
  CHECK(save.code == 0);
  CHECK_FALSE(std::filesystem::exists(dir / "watchdog"));
}

}  // namespace jevons
