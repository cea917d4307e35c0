// Starts that leave no record of their own: what their signs of life say, and how they come into the ledger.
#include "trainer/cost/sign_of_life.h"

#include <filesystem>
#include <memory>
#include <thread>

#include "tests/state/ledger_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/cost/account.h"
#include "trainer/cost/budget.h"
#include "trainer/cost/failure_rate.h"
#include "trainer/cost/ledger_json.h"
#include "trainer/cost/lives.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr double kSlack = 5;  // seconds that a busy machine may put between two lines of a test

LaunchInfo two_workers() {
  return {.run = "young", .hosts = {}, .devices = 2, .project = "p", .purpose = "test"};
}

// A worker of a start of job `job`, whose process began `age` ago.
std::unique_ptr<SignOfLife> worker(const std::string& run_dir, int rank, seconds age,
                                   const std::string& job = "job", const LaunchInfo& info = two_workers()) {
  return std::make_unique<SignOfLife>(run_dir, info, SignOfLife::Worker{rank, job}, Clock::now() - age);
}

// The run's directory as it is left when all its processes are killed now.
void kill_all(const std::string& run_dir, const std::string& left) {
  fs::remove_all(left);
  fs::copy(run_dir, left, fs::copy_options::recursive);
}

RunAccount account_in(const std::string& run_dir) {
  return account_of(read_ledger(ledger_of(run_dir)));
}

std::size_t files_alive(const std::string& run_dir) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(alive_directory(run_dir)), fs::directory_iterator()));
}

void check_seconds(double actual, double least) {
  CHECK(actual >= Approx(least));
  CHECK(actual < least + kSlack);
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

}  // namespace

TEST_CASE(
    "signs of life: a start that is killed before its launch record counts, each worker by its own life") {
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto first = worker(run, 0, seconds(30)), second = worker(run, 1, seconds(20));
  kill_all(run, left);
  const auto check = [&] {
    const RunAccount account = account_in(left);
    REQUIRE(account.launches.size() == 1);
    const LaunchAccount& start = account.launches[0];
    check_seconds(start.device_seconds, 50);
    CHECK(phase(start.phases, Phase::kInit) == Approx(start.device_seconds));
    CHECK(start.launch.id == first->launch());
    CHECK(start.launch.info.project == "p");
    CHECK(start.launch.info.devices == 2);
    CHECK(start.launch.info.hosts.size() == 2);
    CHECK_FALSE(start.launch.start);
    CHECK_FALSE(start.launch.exit);
    CHECK(account.run == "young");
    CHECK(account.total.unaccounted == Approx(0).margin(1e-9));
    CHECK_FALSE(account.total.energy());              // nothing was measured, which is not 0
    CHECK(spending_of(account.total).joules == 0.0);  // but no limit of energy is lost by it
    CHECK(failure_record(account).failures == 1);
    return start.device_seconds;
  };
  const double seen = check();
  book_lives(left, "next");
  CHECK(files_alive(left) == 0);
  CHECK(check() == Approx(seen));  // now by the ledger alone
  const std::string booked = contents_of(ledger_of(left));
  book_lives(left, "next");
  CHECK(contents_of(ledger_of(left)) == booked);
}

TEST_CASE("signs of life: what an early end could not know is as in the next launch") {
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto first = worker(run, 0, seconds(1800)), second = worker(run, 1, seconds(1800));
  kill_all(run, left);
  CHECK_FALSE(account_in(left).total.single_amount());
  CHECK(account_in(left).total.device_seconds_by_type.count("unknown") == 1);
  book_lives(left, "next");
  HandMadeLedger next;
  next.launch({.price = 2.0, .type = "H100"})
      .exit({.time = 1018, .elapsed = 18, .step = 5, .init = 36}, "done", 0);
  write_contents(ledger_of(left), contents_of(ledger_of(left)) + next.text);
  const RunAccount account = account_in(left);
  REQUIRE(account.launches.size() == 2);
  CHECK(account.launches[0].money == Approx(2).epsilon(0.01));
  CHECK(account.total.single_amount() == Approx(2.02).epsilon(0.01));
  CHECK(account.total.device_seconds_by_type.size() == 1);
}

TEST_CASE("signs of life: a killed launch lasted as long as its workers lived, not to its last heartbeat") {
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto first = worker(run, 0, seconds(100)), second = worker(run, 1, seconds(110));
  LaunchInfo info = two_workers();
  info.devices = 3;  // one writes where nobody sees it
  info.launch = first->launch();
  Ledger ledger(ledger_of(run), info, Clock::now() - seconds(60));
  Totals totals;
  totals.device_seconds[static_cast<std::size_t>(Phase::kCompute)] = 150;
  ledger.heartbeat(totals);
  SECTION("known by its identity") {
    first->join(first->launch(), 0, 3);
    second->join(first->launch(), 1, 3);
  }
  SECTION("or only by its job") {}
  kill_all(run, left);
  check_seconds(account_in(left).total.device_seconds, 100 + 110 + 110);
  book_lives(left, "next");
  const RunAccount account = account_in(left);
  REQUIRE(account.launches.size() == 1);
  check_seconds(account.total.device_seconds, 100 + 110 + 110);
  CHECK(phase(account.total.phases, Phase::kCompute) == Approx(150));
  CHECK(account.total.unaccounted == Approx(account.total.device_seconds - 150));
  CHECK(reported(account, "no exit record (killed, or still running); counted to its last sign of life"));
}

TEST_CASE("signs of life: they come without the ledger, again and again") {
  const Scratch scratch;
  const auto first = worker(scratch.path("run"), 0, seconds(0));
  const double before = account_in(scratch.path("run")).total.device_seconds;
  const auto deadline = Clock::now() + seconds(20);
  double now = before;
  while (now < before + 0.3 && Clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(5));
    now = account_in(scratch.path("run")).total.device_seconds;
  }
  CHECK(now >= before + 0.3);
}

TEST_CASE("signs of life: what is not known of a life is a small part of it") {
  const auto interval = [](std::int64_t workers, double age) { return sign_interval(workers, age).count(); };
  CHECK(interval(2, 0) == Approx(0.005));
  CHECK(interval(2, 0.5) == Approx(0.025));
  CHECK(interval(2, 3600) == Approx(0.1));
  CHECK(interval(4096, 0.5) == Approx(4.096));  // 1,000 signs a second of the whole job

  // A worker that was killed when it was 0.2 s old had signed within 10 ms.
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto young = worker(run, 0, seconds(0));
  kill_all(run, left);
  std::string file;
  for (const auto& entry : fs::directory_iterator(alive_directory(left))) file = entry.path().string();
  const std::string head = contents_of(file).substr(0, contents_of(file).find('\n') + 1);
  write_contents(file, head + ledger_line({{"kind", "alive"}, {"elapsed", 0.2}}));
  CHECK(account_in(left).total.device_seconds == Approx(0.205));
}

TEST_CASE("signs of life: of processes that live, none is booked or lost") {
  const Scratch scratch;
  const std::string run = scratch.path("run");
  const auto first = worker(run, 0, seconds(10));
  auto second = worker(run, 1, seconds(10));
  book_lives(run, "another");
  CHECK(contents_of(ledger_of(run)).empty());
  second.reset();  // one is over, the other not
  book_lives(run, "another");
  CHECK(contents_of(ledger_of(run)).empty());
  CHECK(files_alive(run) == 2);
  check_seconds(account_in(run).total.device_seconds, 20);
}

TEST_CASE("signs of life: two starts at once in one directory are two launches, even of the same job") {
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto a0 = worker(run, 0, seconds(500), "job"), a1 = worker(run, 1, seconds(500), "job");
  const auto b0 = worker(run, 0, seconds(40), "job"), b1 = worker(run, 1, seconds(40), "job");
  kill_all(run, left);
  const RunAccount account = account_in(left);
  REQUIRE(account.launches.size() == 2);
  const double a = account.launches[0].device_seconds, b = account.launches[1].device_seconds;
  check_seconds(std::max(a, b), 1000);
  check_seconds(std::min(a, b), 80);
}

TEST_CASE(
    "signs of life: a start that is refused counts, with its reason, and the ledger's owner is not touched") {
  const Scratch scratch;
  const std::string run = scratch.path("run");
  HandMadeLedger owner;
  owner.launch({.id = "owner"})
      .heartbeat({.id = "owner", .time = 1050, .elapsed = 50, .step = 20, .compute = 100});
  fs::create_directories(run);
  write_contents(ledger_of(run), owner.text);
  for (int rank : {0, 1}) {
    worker(run, rank, seconds(12))->end_by_error("another run is using this directory", ExitCode::kUsage);
  }
  CHECK(contents_of(ledger_of(run)) == owner.text);
  for (const char* when : {"before", "after"}) {
    INFO(when << " it is booked");
    const RunAccount account = account_in(run);
    REQUIRE(account.launches.size() == 2);
    CHECK(account.launches[0].device_seconds == Approx(100));
    REQUIRE(account.launches[1].launch.exit);
    CHECK(account.launches[1].launch.exit->code == 2);
    CHECK(account.launches[1].launch.exit->reason == "another run is using this directory");
    check_seconds(account.launches[1].device_seconds, 24);
    book_lives(run, "next");
  }
  CHECK(files_alive(run) == 0);
}

TEST_CASE("signs of life: the end of a launch is the end of its process, and leaves no file") {
  const Scratch scratch;
  const std::string run = scratch.path("run");
  {
    const auto first = worker(run, 0, seconds(0)), second = worker(run, 1, seconds(0));
    LaunchInfo info = two_workers();
    info.launch = first->launch();
    Ledger ledger(ledger_of(run), info, Clock::now());
    second->join(first->launch(), 1, 2);
    first->booked(), second->booked();
    Totals totals;
    ledger.exit("done", ExitCode::kOk, totals);
    std::this_thread::sleep_for(milliseconds(200));  // a report is written, MPI is finalised
  }
  CHECK(files_alive(run) == 0);
  const RunAccount account = account_in(run);
  CHECK(account.problems.empty());
  REQUIRE(account.launches.size() == 1);
  CHECK(account.launches[0].launch.exit->code == 0);
  CHECK(account.total.device_seconds >= 0.4);
  CHECK(phase(account.total.phases, Phase::kShutdown) >= 0.4);
}

TEST_CASE("signs of life: a refused configuration leaves nothing behind") {
  const Scratch scratch;
  SECTION("what was made for it goes") {
    worker(scratch.path("runs/a"), 0, seconds(1))->withdraw();
    CHECK_FALSE(fs::exists(scratch.path("runs")));
  }
  SECTION("what was there stays") {
    fs::create_directories(scratch.path("runs/a"));
    write_contents(scratch.path("runs/a/ledger.jsonl"), "as it was");
    worker(scratch.path("runs/a"), 0, seconds(1))->withdraw();
    CHECK(contents_of(scratch.path("runs/a/ledger.jsonl")) == "as it was");
  }
  SECTION("and what another start uses") {
    const auto own = worker(scratch.path("runs/a"), 0, seconds(1));
    const auto other = worker(scratch.path("runs/a"), 0, seconds(1), "other");
    own->withdraw();
    CHECK(files_alive(scratch.path("runs/a")) == 1);
    CHECK(fs::exists(scratch.path("runs/a/ledger.jsonl")));
  }
}

TEST_CASE("signs of life: a damaged file is reported and the others count") {
  const Scratch scratch;
  const std::string run = scratch.path("run"), left = scratch.path("left");
  const auto first = worker(run, 0, seconds(30)), second = worker(run, 1, seconds(20));
  kill_all(run, left);
  const std::string path = alive_directory(left) + "/" + first->launch();
  const std::string whole = contents_of(path);
  for (std::size_t at = 0; at < whole.size() - 1; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write_contents(path, damaged);
    const RunAccount account = account_in(left);
    CHECK(reported(account, "alive/" + first->launch()));
    check_seconds(account.total.device_seconds, 20);
  }
  write_contents(path, "");
  check_seconds(account_in(left).total.device_seconds, 20);
}

TEST_CASE("signs of life: where nothing can be written there are none, and no error") {
  const auto first = worker("/proc/nowhere/run", 0, seconds(1));
  first->join(first->launch(), 0, 2);
  first->end_by_error("x", ExitCode::kFailure);
  CHECK_FALSE(first->launch().empty());
}

}  // namespace jevons::test
