#include "trainer/cost/ledger_pulse.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/cost/account.h"

namespace jevons::test {
namespace {

using std::chrono::milliseconds;

Ledger new_ledger(const std::string& path) {
  LaunchInfo info;
  info.devices = 2;
  return {path, info, std::chrono::steady_clock::now()};
}

Launch only_launch(const std::string& path) {
  const LedgerContents contents = read_ledger(path);
  REQUIRE(contents.launches.size() == 1);
  return contents.launches[0];
}

// Until there are so many, but at most a minute.
void await_records(const std::string& path, std::ptrdiff_t count) {
  for (int tries = 0; tries < 12000; ++tries) {
    std::ifstream file(path);
    if (std::count(std::istreambuf_iterator<char>(file), {}, '\n') >= count) return;
    std::this_thread::sleep_for(milliseconds(5));
  }
}

}  // namespace

TEST_CASE("pulse: heartbeats come in time, whatever the run does") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  Totals totals;
  totals.step = 5;
  {
    LedgerPulse pulse(new_ledger(path), milliseconds(20));
    await_records(path, 4);  // the launch, and heartbeats of a long start
    pulse.update(totals);
    await_records(path, 8);  // its first step, and heartbeats of one that hangs
    totals.step = 6;
    pulse.update(totals);
    // Killed: no exit.
  }
  const Launch launch = only_launch(path);
  CHECK_FALSE(launch.exit);
  REQUIRE(launch.start);
  CHECK(launch.start->step == 5);
  std::size_t starting = 0;
  for (const Heartbeat& beat : launch.beats) starting += beat.starting ? 1 : 0;
  CHECK(starting >= 3);
  CHECK(launch.beats.size() - starting >= 3);
  CHECK(launch.beats.back().elapsed > launch.beats.front().elapsed);
}

TEST_CASE("pulse: the first step is on the disk long before the interval is over") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  LedgerPulse pulse(new_ledger(path), std::chrono::hours(1));
  Totals totals;
  totals.step = 7;
  pulse.update(totals);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!only_launch(path).start && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  CHECK(only_launch(path).start);
  totals.step = 9;
  pulse.update(totals);
  pulse.exit("done", ExitCode::kOk);
  const Launch launch = only_launch(path);
  CHECK(launch.beats.back().totals.step == 9);
  CHECK(launch.exit->reason == "done");
}

TEST_CASE("pulse: where the launch begins is in the ledger however soon steps follow, or the end") {
  for (int steps = 0; steps < 40; ++steps) {
    const Scratch scratch;
    const std::string path = scratch.path("ledger.jsonl");
    LedgerPulse pulse(new_ledger(path), std::chrono::hours(1));
    Totals totals;
    for (totals.step = 7; totals.step <= 7 + steps; ++totals.step) pulse.update(totals);
    pulse.exit("done", ExitCode::kOk);
    const Launch launch = only_launch(path);
    REQUIRE(launch.start);
    CHECK(launch.start->step == 7);
    CHECK(launch.beats.back().totals.step == 7 + steps);
  }
}

TEST_CASE("pulse: a launch that fails before its first step has an exit record too") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  LedgerPulse(new_ledger(path), std::chrono::hours(1)).exit("no data", ExitCode::kData);
  const Launch launch = only_launch(path);
  CHECK_FALSE(launch.start);
  CHECK(launch.exit->code == 65);
}

TEST_CASE("pulse: a heartbeat that cannot be written is heard of at the next step") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  LedgerPulse pulse(new_ledger(path), milliseconds(1));
  // The disk is full: no file of this process may grow.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit full{1, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &full) == 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::string message;
  while (message.empty() && std::chrono::steady_clock::now() < deadline) {
    message = error_of([&] { pulse.update({}); });
    std::this_thread::sleep_for(milliseconds(1));
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(message == path + ": cannot write: File too large");
}

}  // namespace jevons::test
