#include "trainer/cost/ledger.h"

#include <cmath>
#include <numeric>

#include "tests/state/ledger_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/cost/account.h"

namespace jevons::test {
namespace {

RunAccount account_of_text(const std::string& text) {
  const Scratch scratch;
  write_contents(scratch.path("ledger.jsonl"), text);
  return account_of(read_ledger(scratch.path("ledger.jsonl")));
}

double phase(const std::array<double, kNumPhases>& phases, Phase p) {
  return phases[static_cast<std::size_t>(p)];
}

// Whether one of the problems has all of the text.
bool reported(const RunAccount& run, const std::string& text) {
  for (const std::string& problem : run.problems) {
    if (problem.find(text) != std::string::npos) return true;
  }
  return false;
}

// Two devices for 100 s: 200 device-seconds, 20 init, 178 compute, 2 in no phase; 50 steps.
HandMadeLedger plain_run() {
  HandMadeLedger ledger;
  ledger.launch({});
  ledger.heartbeat({.time = 1050, .elapsed = 50, .step = 20, .compute = 79, .init = 20});
  ledger.exit({.time = 1100, .elapsed = 100, .step = 50, .compute = 178, .init = 20}, "finished", 0);
  return ledger;
}

}  // namespace

TEST_CASE("a run that ends well is accounted to the device-second") {
  const RunAccount run = account_of_text(plain_run().text);
  CHECK(run.problems.empty());
  CHECK(run.run == "hand-made");
  REQUIRE(run.launches.size() == 1);
  CHECK(run.total.device_seconds == Approx(200));
  CHECK(phase(run.total.phases, Phase::kInit) == Approx(20));
  CHECK(phase(run.total.phases, Phase::kCompute) == Approx(178));
  CHECK(run.total.unaccounted == Approx(2));
  CHECK(run.total.rework == 0);
  CHECK(run.total.tokens == 5000);
  CHECK(run.total.single_amount() == Approx(0.2));
  CHECK(run.total.money_per_mtoken() == Approx(40));
  CHECK(run.total.device_seconds_by_type.at("cpu") == Approx(200));
  CHECK(run.launches[0].launch.exit->reason == "finished");
}

TEST_CASE("a killed run without signs of life is counted to its last heartbeat and says so") {
  HandMadeLedger ledger;
  ledger.launch({}).heartbeat({.time = 1050, .elapsed = 50, .step = 20, .compute = 80, .init = 20});
  const RunAccount run = account_of_text(ledger.text);
  CHECK(reported(run, "launch L1: no exit record"));
  CHECK(run.total.device_seconds == Approx(100));
  CHECK(run.total.tokens == 2000);
}

TEST_CASE("a torn last line and a broken middle line are reported and cost no account") {
  const std::string whole = plain_run().text;
  SECTION("torn at every byte of the last line") {
    const std::size_t last_line = whole.rfind('\n', whole.size() - 2) + 1;
    for (std::size_t size = last_line + 1; size < whole.size() - 1; ++size) {
      const RunAccount run = account_of_text(whole.substr(0, size));
      CHECK(reported(run, "line 3: "));
      CHECK(run.total.device_seconds == Approx(100));  // to the heartbeat
    }
  }
  SECTION("any flipped byte of the middle line") {
    const std::size_t begin = whole.find('\n') + 1, end = whole.find('\n', begin);
    for (std::size_t at = begin; at < end; ++at) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 1);
      const RunAccount run = account_of_text(damaged);
      CHECK(reported(run, "line 2: "));
      CHECK(run.total.device_seconds ==
            Approx(200));  // heartbeats are cumulative: the exit record has it all
      CHECK(run.total.tokens == 5000);
    }
  }
  SECTION("a lost launch record") {
    const RunAccount run = account_of_text(whole.substr(whole.find('\n') + 1));
    CHECK(reported(run, "launch L1: its launch record is lost"));
    CHECK(run.total.device_seconds == Approx(198));  // what the phases say
    CHECK(run.total.device_seconds_by_type.at("unknown") == Approx(198));
    CHECK_FALSE(run.total.single_amount());
  }
  SECTION("unknown and senseless records") {
    HandMadeLedger ledger = plain_run();
    ledger.raw("{\"kind\":\"coffee\",\"launch\":\"L1\"}\n").raw("{\"kind\":\"heartbeat\"}\n").raw("[1]\n");
    ledger.heartbeat({.time = 1030, .elapsed = 30, .step = 70, .compute = 1, .init = 1});
    const RunAccount run = account_of_text(ledger.text);
    CHECK(reported(run, "line 4: unknown record 'coffee'"));
    CHECK(reported(run, "line 5: "));
    CHECK(reported(run, "line 6: "));
    CHECK(reported(run, "line 7: its elapsed time runs backwards"));
    CHECK(run.total.device_seconds == Approx(200));
  }
}

TEST_CASE("a wall clock that steps back changes no duration") {
  HandMadeLedger ledger;
  ledger.launch({}).heartbeat({.time = 1050, .elapsed = 50, .step = 20, .compute = 80, .init = 20});
  ledger.exit({.time = -2500, .elapsed = 100, .step = 50, .compute = 180, .init = 20}, "finished", 0);
  const RunAccount run = account_of_text(ledger.text);
  CHECK(reported(run, "line 3: the wall clock moved by -3600 s"));
  CHECK(run.total.device_seconds == Approx(200));
}

TEST_CASE("a resumed run repeats steps: their device-seconds are rework") {
  HandMadeLedger ledger;
  // 2 devices; steps take 4 device-seconds; checkpoint at step 10, killed at step 25.
  ledger.launch({.id = "A"});
  ledger.heartbeat({.id = "A", .time = 1030, .elapsed = 30, .step = 10, .compute = 40, .init = 20});
  ledger.heartbeat({.id = "A", .time = 1050, .elapsed = 50, .step = 20, .compute = 80, .init = 20});
  ledger.heartbeat({.id = "A", .time = 1060, .elapsed = 60, .step = 25, .compute = 100, .init = 20});
  // Resumed at 10 on 4 devices at another price, dead again at 16.
  ledger.launch({.id = "B", .time = 2000, .devices = 4, .price = 7.2, .step = 10});
  ledger.heartbeat({.id = "B", .time = 2010, .elapsed = 10, .step = 16, .compute = 30, .init = 10});
  // Resumed at 14 on 1 device, to the end.
  ledger.launch({.id = "C", .time = 3000, .devices = 1, .price = 3.6, .step = 14});
  ledger.exit({.id = "C", .time = 3050, .elapsed = 50, .step = 24, .compute = 40, .init = 10}, "finished", 0);

  const RunAccount run = account_of_text(ledger.text);
  REQUIRE(run.launches.size() == 3);
  CHECK(run.launches[0].rework == Approx(60));  // steps 11 to 25
  CHECK(phase(run.launches[0].phases, Phase::kCompute) == Approx(40));
  CHECK(run.launches[0].tokens == 1000);
  CHECK(run.launches[1].rework == Approx(10));  // steps 15 and 16 of 6 steps in 30 device-seconds
  CHECK(run.launches[1].tokens == 400);
  CHECK(run.launches[2].rework == 0);
  CHECK(run.total.tokens == 2400);  // every kept step once
  CHECK(run.total.device_seconds == Approx(120 + 40 + 50));
  CHECK(run.total.money.at("USD") == Approx(0.120 + 0.080 + 0.050));
  const CostSum& sum = run.total;
  CHECK(std::accumulate(sum.phases.begin(), sum.phases.end(), sum.rework + sum.unaccounted) ==
        Approx(sum.device_seconds));
}

TEST_CASE("steps that a run has left behind are rework, and count again when it returns to them") {
  HandMadeLedger ledger;
  const auto launch = [&](const char* id, std::int64_t from, std::int64_t to, std::vector<Branch> branches) {
    ledger.launch({.id = id, .begins = false});
    ledger.heartbeat({.id = id, .time = 1010, .elapsed = 10, .step = from, .init = 20, .branches = branches});
    const auto seconds = 10 + 2 * static_cast<double>(to - from);  // 4 device-seconds a step
    ledger.exit({id, 1000 + seconds, seconds, to, 4 * static_cast<double>(to - from), 20, {}, branches},
                "done", 0);
  };
  const auto check = [&](const std::vector<double>& rework, std::int64_t tokens) {
    const RunAccount run = account_of_text(ledger.text);
    REQUIRE(run.launches.size() == rework.size());
    for (std::size_t i = 0; i < rework.size(); ++i) {
      INFO(i);
      CHECK(run.launches[i].rework == Approx(rework[i]));
    }
    CHECK(run.total.tokens == tokens);
    const CostSum& sum = run.total;
    CHECK(std::accumulate(sum.phases.begin(), sum.phases.end(), sum.rework + sum.unaccounted) ==
          Approx(sum.device_seconds));
  };
  launch("A", 0, 20, {});
  launch("B", 10, 13, {{5, 10}});
  check({40, 0}, 1300);
  launch("C", 13, 25, {{5, 10}});
  check({40, 0, 0}, 2500);
  // To step 20 of the first launch, above the end of B.
  launch("D", 20, 22, {{9, 20}});
  check({0, 12, 48, 0}, 2200);
  // To the very beginning, and there killed and started again.
  launch("E", 0, 4, {{10, 0}});
  launch("F", 2, 6, {{10, 0}});
  check({80, 12, 48, 8, 8, 0}, 600);
}

TEST_CASE("a launch that ends before its first step is all init, and loses nobody's steps") {
  HandMadeLedger ledger;
  ledger.launch({.id = "A"});
  ledger.heartbeat({.id = "A", .time = 1050, .elapsed = 50, .step = 20, .compute = 80, .init = 20});
  // Killed while it read a checkpoint; then one that was refused; then one that goes on from step 15.
  ledger.launch({.id = "B", .time = 2000, .begins = false});
  ledger.starting({.id = "B", .time = 2010, .elapsed = 10, .init = 20});
  ledger.launch({.id = "C", .time = 3000, .begins = false});
  ledger.starting({.id = "C", .time = 3004, .elapsed = 4, .init = 8});
  ledger.launch({.id = "D", .time = 4000, .begins = false});
  ledger.starting({.id = "D", .time = 4005, .elapsed = 5, .init = 10});
  ledger.heartbeat({.id = "D", .time = 4010, .elapsed = 10, .step = 15, .init = 20});
  ledger.exit({.id = "D", .time = 4030, .elapsed = 30, .step = 25, .compute = 40, .init = 20}, "done", 0);
  const RunAccount run = account_of_text(ledger.text);
  REQUIRE(run.launches.size() == 4);
  CHECK(run.total.device_seconds == Approx(100 + 20 + 8 + 60));
  CHECK(phase(run.total.phases, Phase::kInit) == Approx(20 + 20 + 8 + 20));
  CHECK_FALSE(run.launches[1].launch.start);
  CHECK(run.launches[1].tokens == 0);
  CHECK(run.launches[1].device_seconds == Approx(20));
  CHECK(run.launches[3].launch.start->step == 15);
  CHECK(run.launches[3].tokens == 1000);
  CHECK(run.launches[0].rework == Approx(20));  // steps 16 to 20, since D went on from 15
  CHECK(run.total.tokens == 2500);
  CHECK(run.total.unaccounted == Approx(0).margin(1e-9));
}

TEST_CASE("launches that overlap in time are all counted, and steps once") {
  // B was started while A still ran (another host lost sight of A); A went on for a while.
  HandMadeLedger ledger;
  ledger.launch({.id = "A"});
  ledger.heartbeat({.id = "A", .time = 1050, .elapsed = 50, .step = 20, .compute = 100});
  ledger.launch({.id = "B", .time = 1040, .devices = 4, .step = 10});
  ledger.heartbeat({.id = "A", .time = 1060, .elapsed = 60, .step = 24, .compute = 120});
  ledger.heartbeat({.id = "B", .time = 1070, .elapsed = 30, .step = 22, .compute = 120});
  ledger.exit({.id = "A", .time = 1080, .elapsed = 80, .step = 32, .compute = 160}, "stopped", 75);
  ledger.exit({.id = "B", .time = 1090, .elapsed = 50, .step = 30, .compute = 200}, "done", 0);
  const RunAccount run = account_of_text(ledger.text);
  CHECK(run.problems.empty());
  CHECK(run.total.device_seconds == Approx(160 + 200));
  CHECK(run.launches[0].rework == Approx(110));  // 5 device-seconds for each of steps 11 to 32
  CHECK(run.launches[1].rework == 0);
  CHECK(run.total.tokens == 3000);
}

TEST_CASE("a clock that steps between two launches changes neither order nor durations") {
  HandMadeLedger ledger;
  ledger.launch({.id = "A", .time = 9000});
  ledger.heartbeat({.id = "A", .time = 9050, .elapsed = 50, .step = 20, .compute = 100});
  // Set back by more than an hour: by the wall clock B began before A.
  ledger.launch({.id = "B", .time = 5000, .devices = 1, .price = 7.2, .step = 10});
  ledger.exit({.id = "B", .time = 5020, .elapsed = 20, .step = 40, .compute = 20}, "done", 0);
  const RunAccount run = account_of_text(ledger.text);
  REQUIRE(run.launches.size() == 2);
  CHECK(run.launches[0].launch.id == "A");
  CHECK(run.launches[0].rework == Approx(50));
  CHECK(run.launches[1].device_seconds == Approx(20));
  CHECK(run.total.money.at("USD") == Approx(0.100 + 0.040));
  CHECK(run.total.tokens == 4000);
}

TEST_CASE("a clock that is set forth changes no duration") {
  HandMadeLedger ledger;
  ledger.launch({}).heartbeat({.time = 8250, .elapsed = 50, .step = 20, .compute = 80, .init = 20});
  const RunAccount run = account_of_text(ledger.text);
  CHECK(reported(run, "line 2: the wall clock moved by +7200 s"));
  CHECK(run.total.device_seconds == Approx(100));
}

TEST_CASE("rework reaches back over several launches") {
  HandMadeLedger ledger;
  ledger.launch({.id = "A"});
  ledger.heartbeat({.id = "A", .time = 1100, .elapsed = 100, .step = 100, .compute = 200});
  ledger.launch({.id = "B", .time = 2000, .step = 100});
  ledger.heartbeat({.id = "B", .time = 2050, .elapsed = 50, .step = 150, .compute = 100});
  // The checkpoints of B and the newest of A were bad: back to 40.
  ledger.launch({.id = "C", .time = 3000, .step = 40});
  ledger.heartbeat({.id = "C", .time = 3010, .elapsed = 10, .step = 50, .compute = 20});
  const RunAccount run = account_of_text(ledger.text);
  CHECK(run.launches[0].rework == Approx(120));
  CHECK(run.launches[1].rework == Approx(100));
  CHECK(run.total.tokens == 5000);
}

TEST_CASE("an unknown price is unknown, never zero") {
  HandMadeLedger ledger = plain_run();
  ledger.launch({.id = "B", .time = 2000, .price = std::nullopt, .step = 50});
  ledger.exit({.id = "B", .time = 2010, .elapsed = 10, .step = 60, .compute = 20}, "finished", 0);
  const RunAccount run = account_of_text(ledger.text);
  CHECK_FALSE(run.launches[1].money);
  CHECK_FALSE(run.total.single_amount());
  CHECK_FALSE(run.total.money_per_mtoken());
  CHECK(run.total.money.at("USD") == Approx(0.2));
  CHECK(run.total.unpriced_device_seconds == Approx(20));
  CHECK_FALSE(known_price(-1));
  CHECK(known_price(0) == 0.0);
}

TEST_CASE("energy adds up over launches, and is unknown when a part was not measured") {
  HandMadeLedger ledger;
  ledger.launch({.id = "A"});
  ledger.heartbeat({.id = "A", .time = 1050, .elapsed = 50, .step = 20, .compute = 100, .joules = 4000});
  ledger.exit({.id = "A", .time = 1100, .elapsed = 100, .step = 50, .compute = 200, .joules = 9000}, "done",
              0);
  ledger.launch({.id = "B", .time = 2000, .step = 50});
  ledger.exit({.id = "B", .time = 2010, .elapsed = 10, .step = 60, .compute = 20, .joules = 1000}, "done", 0);
  CHECK(account_of_text(ledger.text).total.energy() == Approx(10000));
  ledger.launch({.id = "C", .time = 3000, .step = 60});
  ledger.exit({.id = "C", .time = 3010, .elapsed = 10, .step = 70, .compute = 20}, "done", 0);
  const RunAccount run = account_of_text(ledger.text);
  CHECK_FALSE(run.total.energy());
  CHECK(run.total.energy_joules == Approx(10000));
  CHECK(run.total.unmetered_device_seconds == Approx(20));
  CHECK_FALSE(run.launches[2].energy_joules);
}

TEST_CASE("MFU of a run is useful work over everything allocated") {
  // 4000 kept tokens of 1e9 FLOPs; the first 100 device-seconds can do 1e12 a second, the next 50 twice that.
  HandMadeLedger ledger;
  ledger.launch({.id = "A", .flops_per_token = 1e9, .peak_tflops = 1});
  ledger.heartbeat({.id = "A", .time = 1050, .elapsed = 50, .step = 35, .compute = 100});
  ledger.launch(
      {.id = "B", .time = 2000, .devices = 1, .step = 30, .flops_per_token = 1e9, .peak_tflops = 2});
  ledger.exit({.id = "B", .time = 2050, .elapsed = 50, .step = 40, .compute = 50}, "done", 0);
  RunAccount run = account_of_text(ledger.text);
  CHECK(run.total.tokens == 4000);
  CHECK(run.total.mfu() == Approx(4000e9 / (100 * 1e12 + 50 * 2e12)));
  CHECK(run.total.tokens_per_device_hour() == Approx(4000 / (150.0 / 3600)));
  ledger.launch(
      {.id = "C", .time = 3000, .step = 40, .flops_per_token = 1e9});  // a device without a known peak
  ledger.exit({.id = "C", .time = 3010, .elapsed = 10, .step = 41, .compute = 20}, "done", 0);
  run = account_of_text(ledger.text);
  CHECK_FALSE(run.total.mfu());
  CHECK(run.total.unrated_device_seconds == Approx(20));
}

TEST_CASE("what the writer writes, the reader reads") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  LaunchInfo info{"run",  {"host-1"}, "cpu", 2,      1.5, "EUR", "proj", "final",
                  "abc+", "dp 2",     500,   "list", 3e9, 67.5,  ""};
  const auto process_start = std::chrono::steady_clock::now() - std::chrono::seconds(3);
  {
    Ledger ledger(path, info, process_start);
    Totals totals;
    totals.device_seconds[static_cast<std::size_t>(Phase::kDispatch)] = 0.1 + 0.2;
    ledger.heartbeat(std::nullopt);
    totals.step = 11;
    totals.tokens = 1100;
    totals.total_steps = 600;
    totals.lineage.take({3, 7});
    ledger.heartbeat(totals);
    totals.energy_joules = 12.5;
    totals.step = 12;
    ledger.exit("stopped by a file named \xff", ExitCode::kTryAgain, totals);
  }
  const LedgerContents contents = read_ledger(path);
  CHECK(contents.problems.empty());
  REQUIRE(contents.launches.size() == 1);
  const Launch& launch = contents.launches[0];
  CHECK(launch.info.hosts == info.hosts);
  CHECK(launch.info.price_per_device_hour == 1.5);
  CHECK(launch.info.currency == "EUR");
  CHECK(launch.info.project == "proj");
  CHECK(launch.info.purpose == "final");
  CHECK(launch.info.git_id == "abc+");
  CHECK(launch.info.layout == "dp 2");
  CHECK(launch.start->step == 11);
  CHECK(launch.info.total_steps == 600);  // as known last
  CHECK(launch.start->lineage.branches() == std::vector<Branch>{{3, 7}});
  CHECK(launch.info.price_source == "list");
  CHECK(launch.info.model_flops_per_token == 3e9);
  CHECK(launch.info.peak_tflops == 67.5);
  REQUIRE(launch.beats.size() == 4);
  CHECK(launch.beats[0].elapsed >= 3);  // time before the record counts
  CHECK(launch.beats[0].elapsed < 60);
  for (int starting : {0, 1}) {
    const Heartbeat& beat = launch.beats[static_cast<std::size_t>(starting)];
    CHECK(beat.starting);
    CHECK(beat.totals.tokens == 1100);
    CHECK(phase(beat.totals.device_seconds, Phase::kInit) == Approx(2 * beat.elapsed));
  }
  CHECK(launch.beats[2].totals.step == 11);
  CHECK(phase(launch.beats[2].totals.device_seconds, Phase::kDispatch) == 0.1 + 0.2);
  CHECK(launch.exit->code == 75);
  CHECK_FALSE(launch.beats[2].totals.energy_joules);
  CHECK(launch.beats[3].totals.energy_joules == 12.5);
  CHECK(std::abs(launch.beats[3].time - (launch.start_time + launch.beats[3].elapsed)) < 1);
}

TEST_CASE("a new launch after a kill in the middle of a line starts a line of its own") {
  const Scratch scratch;
  const std::string path = scratch.path("ledger.jsonl");
  const std::string whole = plain_run().text;
  write_contents(path, whole.substr(0, whole.size() - 30));
  { Ledger ledger(path, {"run", {"h"}, "cpu", 1, {}, "USD", "p", "test", "", "", 0, "", 0, 0, ""}, {}); }
  const LedgerContents contents = read_ledger(path);
  CHECK(contents.launches.size() == 2);
  CHECK(contents.launches[1].has_record);
}

TEST_CASE("a ledger that cannot be written says why") {
  CHECK(error_of([] { Ledger ledger("/dev/full", {}, {}); }).find("/dev/full: cannot write: No space") == 0);
}

TEST_CASE("the seal of a line") {
  const std::string sealed = seal_ledger_line(R"({"a":1})");
  CHECK(sealed.find(R"({"a":1,"crc32c":")") == 0);
  CHECK(check_ledger_line(sealed) == LineSeal::kGood);
  CHECK(check_ledger_line(R"({"a":1})") == LineSeal::kNone);  // written by hand
  std::string changed = sealed;
  changed[5] = '2';
  CHECK(check_ledger_line(changed) == LineSeal::kBroken);
}

}  // namespace jevons::test
