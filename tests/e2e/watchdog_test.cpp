// Jobs that hang or lose a rank: who is named, what the exit code is, and that no process is left behind.
#include <filesystem>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

using test::Ran;
using test::shell;

// Whether a second later no process of this name has `argument` on its command line.
bool all_gone(const std::string& program, const std::string& argument) {
  return shell(fmt::format("sleep 1; ps -C {} -o args= | grep {}", program, argument)).code == 1;
}

// Three workers that would never end.
struct Job {
  Job() {
    test::write_corpus(dir / "corpus");
    write_bytes(dir / "run.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  }

  // Starts them, sends `signal` to rank 1 when a step is done, and waits for the end.
  Ran start_and_send(const std::string& signal) const {
    const std::string run = fmt::format(
        "mpirun --bind-to none -n 3 {} train {} train.steps=100000000 train.global_batch_size=3 "
        "parallel.ep=1 watchdog.stall_seconds=4",
        JEVONS_PROGRAM, dir / "run.yaml");
    const std::string rank_1 = fmt::format(
        "for p in $(pgrep -f \"train {}\"); do "
        "grep -qz OMPI_COMM_WORLD_RANK=1 /proc/$p/environ && kill -{} $p; done",
        dir / "run.yaml", signal);
    return shell(fmt::format("{} & until grep -qs step {}; do sleep 0.1; done; {}; wait $!", run,
                             dir / "run/metrics.jsonl", rank_1),
                 100);
  }

  TempDir dir;
};

}  // namespace

TEST_CASE("a rank that stops is named, and the job ends", "[e2e][watchdog]") {
  const Job job;
  const Ran ran = job.start_and_send("STOP");
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "Missing, gave no sign of life: rank 1 (process "));
  CHECK(contains(ran.output, " over world"));  // where the others wait
  CHECK(all_gone("jevons", job.dir / "run.yaml"));
  CHECK(contains(read_bytes(job.dir / "run/watchdog/summary.txt"), "rank 1"));
  CHECK(contains(read_bytes(job.dir / "run/logs/rank-2.log"), "watchdog: no progress for"));
}

TEST_CASE("a rank that is killed ends the job, and the others say where they were", "[e2e][watchdog]") {
  const Job job;
  const Ran ran = job.start_and_send("KILL");
  INFO(ran.output);
  CHECK(ran.code == 137);
  CHECK(contains(ran.output, "rank 1 with PID"));
  CHECK(all_gone("jevons", job.dir / "run.yaml"));
  const std::string told =
      read_bytes(job.dir / "run/logs/rank-0.log") + read_bytes(job.dir / "run/logs/rank-2.log");
  CHECK(contains(told, "told to stop while at step"));
}

TEST_CASE("a rank that leaves a collective out is named", "[e2e][watchdog]") {
  const TempDir dir;
  const Ran ran =
      shell(fmt::format("mpirun --bind-to none -n 3 {} {} 1", JEVONS_WATCHDOG_RANKS, dir / "watchdog"), 60);
  INFO(ran.output);
  CHECK(ran.code == 70);
  CHECK(contains(ran.output, "different collectives: rank 1 in all_reduce"));
  CHECK(all_gone("watchdog_ranks", dir / "watchdog"));
}

}  // namespace jevons
