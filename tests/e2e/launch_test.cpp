// scripts/launch and the Slurm templates: with a program that does as it is told, and with the real one.
#include <filesystem>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::Ran;
using test::shell;

const std::string kLaunch = JEVONS_SOURCE_DIR "/scripts/launch";

void write_script(const std::string& path, const std::string& body) {
  write_bytes(path, "#!/bin/bash\n" + body);
  fs::permissions(path, fs::perms::owner_all);
}

// A program whose n-th start ends with the n-th of `codes`, and the file in which it counts.
struct Fake {
  explicit Fake(const std::string& codes) {
    write_script(program(), fmt::format("codes=({})\necho x >> {}\n"
                                        "exit ${{codes[$(wc -l < {}) - 1]}}\n",
                                        codes, starts_file(), starts_file()));
  }
  std::string program() const { return dir / "fake"; }
  std::string starts_file() const { return dir / "starts"; }
  std::size_t starts() const { return read_bytes(starts_file()).size() / 2; }
  TempDir dir;
};

void check_launch(const std::string& codes, const std::string& options, int code, std::size_t starts) {
  INFO(codes << " " << options);
  const Fake fake(codes);
  const Ran ran = shell(kLaunch + " --backoff 0 " + options + " -- " + fake.program(), 20);
  INFO(ran.output);
  CHECK(ran.code == code);
  CHECK(fake.starts() == starts);
}

// Shell code that waits until `condition` holds.
std::string until(const std::string& condition) {
  return fmt::format("until {} >/dev/null 2>&1; do sleep 0.05; done; ", condition);
}

// Starts a command in the background, sends it signals, each when `condition` holds, and waits for it.
Ran signalled(const std::string& command, const std::vector<std::string>& signals,
              const std::string& condition) {
  std::string script = command + " & pid=$!; ";
  for (const std::string& signal : signals)
    script += until(condition) + "kill -" + signal + " $pid; sleep 0.3; ";
  return shell(script + "wait $pid", 60);
}

// A run that would never end, in its own directory.
struct RealRun {
  RealRun() {
    test::write_corpus(dir / "corpus");
    write_bytes(dir / "tiny.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  }
  std::string train() const {
    return fmt::format("{} train {} train.steps=1000000", JEVONS_PROGRAM, dir / "tiny.yaml");
  }
  std::string under_launch() const { return fmt::format("{} --backoff 0 mpirun -n 2 {}", kLaunch, train()); }
  std::string is_training() const { return "[ -s " + (dir / "run/metrics.jsonl") + " ]"; }
  TempDir dir;
};

}  // namespace

TEST_CASE("launch: final codes end it, crashes and 75 are started again", "[launch]") {
  check_launch("0", "", 0, 1);
  for (const char* final : {"2", "65", "70", "77"}) check_launch(final, "", std::stoi(final), 1);
  check_launch("75 75 0", "", 0, 3);
  check_launch("137 1 139 0", "", 0, 4);
  check_launch("9 9 9 9 9 9", "--max-restarts 2", 9, 3);
  check_launch("75 75 75 75", "--max-restarts 1", 75, 2);
  check_launch("9 9 9 0", "--max-restarts 1 --healthy 0", 0, 4);  // every start counts as a success
  check_launch("70 0", "--retry-failures", 0, 2);
  check_launch("127 0", "", 127, 1);
  CHECK(shell(kLaunch + " --backoff 30 /nowhere/jevons", 20).code == 127);
  CHECK(shell(kLaunch + " --nonsense").code == 2);
  CHECK(shell(kLaunch).code == 2);
}

TEST_CASE("launch -n: starts the program under mpirun with what mpirun needs", "[launch]") {
  const TempDir dir;
  write_script(dir / "mpirun", "echo mpirun \"$@\"; env\n");
  const std::string path = fmt::format("env -i PATH={}:$PATH ", dir / "");
  const Ran ran =
      shell(path + "OMPI_MCA_hwloc_base_binding_policy=core " + kLaunch + " -n 3 my.yaml threads=1");
  INFO(ran.output);
  CHECK(ran.code == 0);
  CHECK(ran.output.starts_with("mpirun -n 3 "));
  CHECK(contains(ran.output, "jevons train my.yaml threads=1\n"));
  CHECK(contains(ran.output, "OMPI_ALLOW_RUN_AS_ROOT=1\n"));
  CHECK(contains(ran.output, "OMPI_MCA_rmaps_base_oversubscribe=1\n"));
  CHECK(contains(ran.output, "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe\n"));
  CHECK(contains(ran.output, "OMPI_MCA_hwloc_base_binding_policy=core\n"));  // the user's own value
  CHECK(shell(kLaunch + " -n many my.yaml").code == 2);
  CHECK(shell(kLaunch + " -n 3").code == 2);
}

TEST_CASE("launch: back-off doubles", "[launch]") {
  const Fake fake("9 9 9");
  const Ran ran = shell(kLaunch + " --backoff 1 --max-restarts 2 " + fake.program(), 20);
  CHECK(contains(ran.output, "restart 1 of 2 in 1 s"));
  CHECK(contains(ran.output, "restart 2 of 2 in 2 s"));
}

TEST_CASE("launch: TERM, USR1 and USR2 become USR1; more TERMs end the command", "[launch]") {
  const TempDir dir;
  const std::string fake = dir / "fake", is_ready = "[ -e " + (dir / "ready") + " ]";
  const std::string wait = fmt::format("touch {}\nwhile :; do sleep 0.05; done\n", dir / "ready");
  for (const char* signal : {"TERM", "USR1", "USR2"}) {
    fs::remove(dir / "ready");
    write_script(fake, "trap \"echo saving; sleep 0.3; exit 75\" USR1\ntrap \"exit 3\" TERM\n" + wait);
    const Ran ran =
        signalled(fmt::format("{} --on-stop \"echo requeued\" {}", kLaunch, fake), {signal}, is_ready);
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "saving"));
    CHECK(contains(ran.output, "requeued") == (signal != std::string("TERM")));  // which ends it for good
  }
  const auto stubborn = [&](const std::string& on_usr1, const std::string& on_hup,
                            const std::vector<std::string>& signals) {
    fs::remove(dir / "ready");
    write_script(fake, fmt::format("trap '{}' USR1\ntrap '{}' HUP\n", on_usr1, on_hup) + wait);
    return signalled(kLaunch + " --on-stop \"echo requeued\" " + fake, signals, is_ready);
  };
  CHECK(stubborn("", "exit 3", {"TERM", "TERM"}).code == 3);
  CHECK(stubborn("", "", {"TERM", "TERM", "TERM"}).code == 128 + 9);
  // The time is nearly up, and then it is up.
  const Ran ran = stubborn("saves=x$saves; [ $saves = xx ] && exit 75", "exit 3", {"USR1", "TERM"});
  INFO(ran.output);
  CHECK(ran.code == 75);
  CHECK_FALSE(contains(ran.output, "requeued"));
}

TEST_CASE("launch: the Slurm templates requeue what was stopped", "[launch]") {
  for (const char* kind : {"mpirun", "srun"}) {
    const TempDir dir;
    const std::string bin = dir / "bin";
    fs::create_directory(bin);
    write_script(bin + "/" + kind, fmt::format("echo started \"$@\"\ntrap \"exit 75\" USR1\ntouch {}\n"
                                               "while :; do sleep 0.05; done\n",
                                               dir / "ready"));
    write_script(bin + "/scontrol", "echo scontrol \"$@\"\n");
    const std::string batch = fmt::format(
        "env PATH={}:$PATH CONFIG=run.yaml SLURM_JOB_ID=42 SLURM_SUBMIT_DIR={} bash "
        "{}/scripts/slurm/{}.sbatch",
        bin, JEVONS_SOURCE_DIR, JEVONS_SOURCE_DIR, kind);
    const Ran ran = signalled(batch, {"USR1"}, "[ -e " + (dir / "ready") + " ]");
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "jevons train run.yaml"));
    CHECK(contains(ran.output, "scontrol requeue 42"));
  }
}

TEST_CASE("launch: TERM saves a real run under mpirun", "[launch]") {
  const RealRun run;
  const Ran stopped = signalled(run.under_launch(), {"TERM"}, run.is_training());
  INFO(stopped.output);
  CHECK(stopped.code == 75);
  CHECK(contains(stopped.output, "stopped by a signal"));
}

// To mpirun such a signal means that it is to end the workers.
TEST_CASE("launch: a signal to every process at once, as of scancel or Ctrl-C, saves", "[launch]") {
  for (const char* kill : {"kill -TERM $(pgrep -s $pid)", "kill -INT -$pid"}) {
    const RealRun run;
    const Ran stopped =
        shell("env --default-signal=INT setsid " + run.under_launch() + " --exit-after-minutes 1 & pid=$!; " +
                  until(run.is_training()) + kill + "; wait $pid",
              90);
    INFO(kill << "\n" << stopped.output);
    CHECK(stopped.code == 75);
    CHECK(contains(stopped.output, "stopped by a signal"));
  }
}

TEST_CASE("launch: a killed worker is repaired by a restart that resumes", "[launch]") {
  const RealRun run;
  const std::string script =
      run.under_launch() + " checkpoint.interval=20 checkpoint.keep_last=2 & pid=$!; " +
      until("ls " + (run.dir / "run/checkpoints/") + "*/manifest.pb") +
      fmt::format("kill -9 $(pgrep -f \"^{} train {}\" | head -1); ", JEVONS_PROGRAM, run.dir / "tiny.yaml") +
      until("grep \"resumed from\" " + (run.dir / "run/logs/rank-0.log")) + "kill -TERM $pid; wait $pid";
  const Ran repaired = shell(script, 60);
  INFO(repaired.output);
  CHECK(repaired.code == 75);
  CHECK(contains(repaired.output, "crashed with exit code"));
  CHECK(contains(repaired.output, "resumed from"));
}

TEST_CASE("a plain process: signals and --exit-after-minutes save", "[launch]") {
  for (const char* signal : {"TERM", "USR1", "USR2"}) {
    const RealRun run;
    const Ran ran = signalled("env --block-signal=TERM " + run.train(), {signal}, run.is_training());
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "stopped by a signal"));
  }
  const RealRun run;
  const Ran in_time = shell(run.train() + " --exit-after-minutes 0.02", 30);
  INFO(in_time.output);
  CHECK(in_time.code == 75);
  CHECK(contains(in_time.output, "its time is up"));
}

TEST_CASE("a second run in the same directory is refused and told who has it", "[launch]") {
  const RealRun run;
  const Ran second =
      shell(fmt::format("{} > {} 2>&1 & pid=$!; {}{}; echo code $?; kill -USR1 $pid; wait $pid", run.train(),
                        run.dir / "first.log", until(run.is_training()), run.train()),
            60);
  INFO(second.output);
  CHECK(second.code == 75);
  CHECK(contains(second.output, "another run is using this directory: process "));
  CHECK(contains(second.output, "code 2\n"));
}

TEST_CASE("token files that change under a run stop it at the next save", "[launch]") {
  const RealRun run;
  const Ran ran = shell(fmt::format("{} checkpoint.interval=50 checkpoint.keep_last=1 & pid=$!; {}"
                                    "printf \"?\" | dd of={}.bin bs=1 seek=5 conv=notrunc; wait $pid",
                                    run.train(), until(run.is_training()), run.dir / "corpus"),
                        60);
  INFO(ran.output);
  CHECK(ran.code == 65);
  CHECK(contains(ran.output, "the token files have changed since this launch"));
}

}  // namespace jevons
