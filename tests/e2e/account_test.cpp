// The account of starts that end before the program has said a word, and of processes after their last one.
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"
#include "trainer/cost/account.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::Ran;
using test::shell;

struct Workspace {
  Workspace() {
    test::write_corpus(dir / "corpus");
    write_bytes(dir / "tiny.yaml", test::tiny_yaml(dir / "corpus", run()));
  }
  std::string run() const { return dir / "run"; }
  std::string train(const std::string& overrides = "") const {
    return fmt::format("{} train {} {}", JEVONS_PROGRAM, dir / "tiny.yaml", overrides);
  }
  RunAccount account() const { return account_of(read_ledger(run() + "/ledger.jsonl")); }
  double device_seconds_by_the_command() const {
    const Ran ran = test::jevons("cost --json " + run());
    INFO(ran.output);
    REQUIRE(ran.code == 0);
    return nlohmann::json::parse(ran.output)["total"]["device_seconds"];
  }
  std::size_t files_alive() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(run() + "/alive"), {}));
  }
  TempDir dir;
};

}  // namespace

TEST_CASE("a start that is killed inside MPI's own start-up is in the account", "[e2e][account]") {
  const Workspace w;
  // The other worker never calls MPI, so that this one waits for it.
  const Ran ran = shell(fmt::format("{} : -n 1 sleep 60 & pid=$!; "
                                    "until ls {}/alive/*-* >/dev/null 2>&1; do sleep 0.05; done; sleep 1; "
                                    "kill -9 $(cat /proc/$pid/task/*/children); wait $pid",
                                    test::job_of(1, w.train()), w.run()),
                        60);
  INFO(ran.output);
  CHECK(ran.code != 0);
  const double seen = w.device_seconds_by_the_command();
  CHECK(seen >= 0.9);
  CHECK(seen < 60);
  const RunAccount before = w.account();
  REQUIRE(before.launches.size() == 1);
  CHECK(before.launches[0].launch.info.devices == 2);
  CHECK(before.launches[0].phases[static_cast<std::size_t>(Phase::kInit)] ==
        Approx(before.launches[0].device_seconds));
  // The next start books it, and its price is the same.
  const Ran next = shell(test::job_of(2, w.train("parallel.ep=2")));
  INFO(next.output);
  CHECK(next.code == 0);
  CHECK(next.output.find("account: 1 launches before this one, 1 of them without an exit record") !=
        std::string::npos);
  const RunAccount account = w.account();
  REQUIRE(account.launches.size() == 2);
  CHECK(account.launches[0].device_seconds >= seen);
  CHECK(account.total.single_amount());
  CHECK(w.files_alive() == 0);
}

TEST_CASE("a run's account ends with its processes, not with its exit record", "[e2e][account]") {
  const Workspace w;
  const auto begin = std::chrono::steady_clock::now();
  const Ran ran = shell(test::job_of(2, w.train("parallel.ep=2")));
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  INFO(ran.output);
  REQUIRE(ran.code == 0);
  const RunAccount account = w.account();
  REQUIRE(account.launches.size() == 1);
  const Launch& launch = account.launches[0].launch;
  REQUIRE(launch.end);
  REQUIRE(launch.beats.size() >= 3);
  CHECK(launch.end->elapsed > launch.beats[launch.beats.size() - 2].elapsed);
  CHECK(launch.end->elapsed <= all);
  CHECK(account.launches[0].device_seconds == Approx(2 * launch.end->elapsed));
  CHECK(w.files_alive() == 0);
}

TEST_CASE("a start that the run's lock refuses costs what it took", "[e2e][account]") {
  const Workspace w;
  const Ran ran = shell(fmt::format("{0} & pid=$!; until [ -s {1}/metrics.jsonl ]; do sleep 0.05; done; {0}; "
                                    "echo code $?; kill -USR1 $pid; wait $pid",
                                    w.train("train.steps=1000000"), w.run()),
                        60);
  INFO(ran.output);
  CHECK(ran.output.find("code 2\n") != std::string::npos);
  const RunAccount account = w.account();
  REQUIRE(account.launches.size() == 2);
  const LaunchAccount &owner = account.launches[0], &refused = account.launches[1];
  CHECK(owner.launch.exit->code == 75);
  CHECK(owner.last_step > 0);
  REQUIRE(refused.launch.exit);
  CHECK(refused.launch.exit->code == 2);
  CHECK(refused.launch.exit->reason.find("another run is using this directory") != std::string::npos);
  CHECK(refused.device_seconds >= 10);  // it waited for the lock
}

TEST_CASE("a start that its configuration refuses makes no directory", "[e2e][account]") {
  const Workspace w;
  for (const char* mistake : {"model.num_layer=2", "parallel.ep=3", "device=cuda",
                              "--resume /nowhere/step-00000001 --init-from /nowhere"}) {
    INFO(mistake);
    CHECK(shell(test::job_of(2, w.train(mistake))).code == 2);
    CHECK_FALSE(fs::exists(w.run()));
  }
}

TEST_CASE("a worker that is alone in a job of several tasks says so", "[e2e]") {
  const Workspace w;
  const std::string advice = "srun --mpi=pmix";
  const Ran alone = shell("SLURM_NTASKS=4 " + w.train());
  INFO(alone.output);
  CHECK(alone.code == 0);
  CHECK(alone.output.find("this worker is alone, though its job has 4 tasks") != std::string::npos);
  CHECK(alone.output.find(advice) != std::string::npos);
  CHECK(shell("SLURM_NTASKS=4 " JEVONS_PROGRAM " doctor --dir " + w.run()).output.find(advice) !=
        std::string::npos);
  // mpirun says itself how many it started; without tasks there is nothing to say.
  for (const std::string& launched :
       {"SLURM_NTASKS=4 " + test::job_of(1, w.train()), "SLURM_NTASKS=1 " + w.train(), w.train()}) {
    CHECK(shell(launched).output.find(advice) == std::string::npos);
  }
}

}  // namespace jevons
