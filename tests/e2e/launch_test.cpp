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

// Starts a command in the background, sends it signals, each after a pause, and waits for it.
Ran signalled(const std::string& command, const std::vector<std::string>& signals, double pause) {
  std::string script = command + " & pid=$!; ";
  for (const std::string& signal : signals) script += fmt::format("sleep {}; kill -{} $pid; ", pause, signal);
  return shell(script + "wait $pid", 60);
}

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
  CHECK(shell(kLaunch + " --nonsense").code == 2);
  CHECK(shell(kLaunch).code == 2);
}

TEST_CASE("launch: back-off doubles", "[launch]") {
  const Fake fake("9 9 9");
  const Ran ran = shell(kLaunch + " --backoff 1 --max-restarts 2 " + fake.program(), 20);
  CHECK(contains(ran.output, "restart 1 of 2 in 1 s"));
  CHECK(contains(ran.output, "restart 2 of 2 in 2 s"));
}

TEST_CASE("launch: TERM and INT become USR1, a second one ends the command", "[launch]") {
  const TempDir dir;
  const std::string fake = dir / "fake";
  write_script(fake,
               "trap \"echo saving; sleep 0.3; exit 75\" USR1\n"
               "trap \"echo got TERM; exit 3\" TERM\nwhile :; do sleep 0.05; done\n");
  for (const char* signal : {"TERM", "USR1", "USR2"}) {
    const Ran ran = signalled(fmt::format("{} --on-stop \"echo requeued\" {}", kLaunch, fake), {signal}, 0.3);
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "saving"));
    CHECK(contains(ran.output, "requeued"));
  }
  write_script(fake, "trap \"\" USR1\ntrap \"echo got TERM; exit 3\" TERM\nwhile :; do sleep 0.05; done\n");
  const Ran ran = signalled(kLaunch + " " + fake, {"TERM", "TERM"}, 0.3);
  INFO(ran.output);
  CHECK(ran.code == 3);
  CHECK(contains(ran.output, "got TERM"));
}

TEST_CASE("launch: the Slurm templates requeue what was stopped", "[launch]") {
  for (const char* kind : {"mpirun", "srun"}) {
    const TempDir dir;
    const std::string bin = dir / "bin";
    fs::create_directory(bin);
    write_script(bin + "/" + kind,
                 "echo started \"$@\"\ntrap \"exit 75\" USR1\nwhile :; do sleep 0.05; done\n");
    write_script(bin + "/scontrol", "echo scontrol \"$@\"\n");
    const std::string batch = fmt::format(
        "env PATH={}:$PATH CONFIG=run.yaml SLURM_JOB_ID=42 SLURM_SUBMIT_DIR={} bash "
        "{}/scripts/slurm/{}.sbatch",
        bin, JEVONS_SOURCE_DIR, JEVONS_SOURCE_DIR, kind);
    const Ran ran = signalled(batch, {"USR1"}, 0.5);
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "jevons train run.yaml"));
    CHECK(contains(ran.output, "scontrol requeue 42"));
  }
}

TEST_CASE("launch: TERM saves a real run under mpirun; started again it goes on; a crash is repaired",
          "[launch]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  write_bytes(dir / "tiny.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  const std::string command = fmt::format("{} --backoff 0 mpirun --bind-to none -n 2 {} train {}", kLaunch,
                                          JEVONS_PROGRAM, dir / "tiny.yaml");
  const Ran stopped = signalled(command + " train.steps=1000000", {"TERM"}, 4);
  INFO(stopped.output);
  CHECK(stopped.code == 75);
  CHECK(contains(stopped.output, "stopped by a signal"));

  // Kills one worker; the launcher starts the job again, which then stops for lack of time and is started
  // again.
  const std::string crash = fmt::format(
      "{} train.steps=1000000 checkpoint.interval=20 checkpoint.keep_last=2 --exit-after-minutes 0.1 & "
      "pid=$!; sleep 3; "
      "kill -9 $(pgrep -f \"^{} train {}\" | head -1); sleep 5; kill -TERM $pid; wait $pid",
      command, JEVONS_PROGRAM, dir / "tiny.yaml");
  const Ran repaired = shell(crash, 60);
  INFO(repaired.output);
  CHECK(repaired.code == 75);
  CHECK(contains(repaired.output, "crashed with exit code"));
  CHECK(contains(repaired.output, "resumed from"));
}

TEST_CASE("a plain process: TERM saves, --exit-after-minutes saves, a second run is refused", "[launch]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  write_bytes(dir / "tiny.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  const std::string train =
      fmt::format("{} train {} train.steps=1000000 checkpoint.interval=0", JEVONS_PROGRAM, dir / "tiny.yaml");
  for (const char* signal : {"TERM", "USR1", "USR2"}) {
    const Ran ran = signalled(train, {signal}, 1);
    INFO(ran.output);
    CHECK(ran.code == 75);
    CHECK(contains(ran.output, "stopped by a signal"));
  }
  const Ran timed = shell(train + " --exit-after-minutes 0.02", 30);
  INFO(timed.output);
  CHECK(timed.code == 75);
  CHECK(contains(timed.output, "its time is up"));
  const Ran second =
      shell(fmt::format("{} > {} 2>&1 & pid=$!; sleep 1; {}; echo code $?; kill -USR1 $pid; wait $pid", train,
                        dir / "first.log", train),
            40);
  INFO(second.output);
  CHECK(second.code == 75);
  CHECK(contains(second.output, "another run is using this directory: process "));
  CHECK(contains(second.output, "code 2\n"));
}

TEST_CASE("token files that change under a run stop it at the next save", "[launch]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  write_bytes(dir / "tiny.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  const Ran ran =
      shell(fmt::format("{} train {} train.steps=1000000 checkpoint.interval=50 checkpoint.keep_last=1 "
                        "& pid=$!; sleep 1; printf \"?\" | dd of={}.bin bs=1 seek=5 conv=notrunc; wait $pid",
                        JEVONS_PROGRAM, dir / "tiny.yaml", dir / "corpus"),
            30);
  INFO(ran.output);
  CHECK(ran.code == 65);
  CHECK(contains(ran.output, "the token files have changed since this launch"));
}

}  // namespace jevons
